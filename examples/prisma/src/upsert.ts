/** Writes the records on standard input, each unless the row has a newer version already. */
import { prisma } from "./database.js";
import { Prisma } from "./generated/client.js";
import { envelopeOf, isBareTombstone, objectOf, readRecords, type SubscriptionRecord } from "./record.js";

/** Prisma's own `upsert` takes no condition on the row: these two statements together do, and bear others beside them. */
async function upsert(record: SubscriptionRecord): Promise<void> {
  const { id } = record;
  const envelope = envelopeOf(record);
  const { metadata, ...scalars } = objectOf(record);
  const object = { ...scalars, metadata: metadata ?? Prisma.DbNull };
  const created = await prisma.subscription.createMany({ data: [{ id, ...envelope, ...object }], skipDuplicates: true });
  if (created.count > 0) return;
  await prisma.subscription.updateMany({
    where: { id, updatedIdx: { lte: envelope.updatedIdx } },
    data: { ...envelope, ...(isBareTombstone(record) ? {} : object) },
  });
}

for await (const record of readRecords()) await upsert(record);
await prisma.$disconnect();
