/** Writes the records on standard input, each unless the row has a newer version already. */
import { lte, sql } from "drizzle-orm";
import { client, database } from "./database.js";
import { envelopeOf, isBareTombstone, objectOf, readRecords, type SubscriptionRecord } from "./record.js";
import { subscription } from "./schema.js";

async function upsert(record: SubscriptionRecord): Promise<void> {
  const envelope = envelopeOf(record);
  const object = objectOf(record);
  await database
    .insert(subscription)
    .values({ id: record.id, ...envelope, ...object })
    .onConflictDoUpdate({
      target: subscription.id,
      set: { ...envelope, ...(isBareTombstone(record) ? {} : object), updatedAt: sql`now()` },
      setWhere: lte(subscription.updatedIdx, sql`excluded.updated_idx`),
    });
}

for await (const record of readRecords()) await upsert(record);
await client.end();
