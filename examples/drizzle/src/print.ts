/** Prints the table, a row a line, as Drizzle reads it. */
import { asc } from "drizzle-orm";
import { client, database } from "./database.js";
import { lineOf } from "./record.js";
import { subscription } from "./schema.js";

for (const row of await database.select().from(subscription).orderBy(asc(subscription.id))) console.log(lineOf(row));
await client.end();
