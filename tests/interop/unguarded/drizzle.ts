import { client, database } from "./database.js";
import { envelopeOf, objectOf, readRecords } from "./record.js";
import { subscription } from "./schema.js";

for await (const record of readRecords()) {
  const row = { id: record.id, ...envelopeOf(record), ...objectOf(record) };
  await database.insert(subscription).values(row).onConflictDoUpdate({ target: subscription.id, set: row });
}
await client.end();
