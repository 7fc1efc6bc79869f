import { database } from "./database.js";
import { SubscriptionEntity } from "./entity.js";
import { envelopeOf, objectOf, readRecords } from "./record.js";

await database.initialize();
for await (const record of readRecords()) {
  const row = { id: record.id, ...envelopeOf(record), updatedIdx: String(record.updated_idx), ...objectOf(record) };
  await database.getRepository(SubscriptionEntity).upsert(row, ["id"]);
}
await database.destroy();
