/** Writes the records on standard input, each unless the row has a newer version already. */
import { database } from "./database.js";
import { SubscriptionEntity } from "./entity.js";
import { envelopeOf, isBareTombstone, objectOf, readRecords, type SubscriptionRecord } from "./record.js";

async function upsert(record: SubscriptionRecord): Promise<void> {
  const envelope = { ...envelopeOf(record), updatedIdx: String(record.updated_idx) };
  const object = objectOf(record);
  await database
    .createQueryBuilder()
    .insert()
    .into(SubscriptionEntity)
    .values({ id: record.id, ...envelope, ...object })
    .orUpdate([...Object.keys(envelope), ...(isBareTombstone(record) ? [] : Object.keys(object)), "updatedAt"], ["id"], {
      overwriteCondition: { where: `"subscription"."updatedIdx" <= excluded."updatedIdx"` },
    })
    .updateEntity(false)
    .execute();
}

await database.initialize();
for await (const record of readRecords()) await upsert(record);
await database.destroy();
