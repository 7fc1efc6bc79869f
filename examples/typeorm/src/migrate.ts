/** Makes the table as the entity says, and prints the statements that this took. */
import { database } from "./database.js";

await database.initialize();
const { upQueries } = await database.driver.createSchemaBuilder().log();
for (const { query } of upQueries) console.log(query);
await database.synchronize();
await database.destroy();
