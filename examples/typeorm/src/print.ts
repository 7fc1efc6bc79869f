/** Prints the table, a row a line, as TypeORM reads it. */
import { database } from "./database.js";
import { SubscriptionEntity } from "./entity.js";
import { lineOf } from "./record.js";

await database.initialize();
for (const row of await database.getRepository(SubscriptionEntity).find({ order: { id: "ASC" } })) console.log(lineOf(row));
await database.destroy();
