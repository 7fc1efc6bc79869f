import { prisma } from "./database.js";
import { envelopeOf, objectOf, readRecords } from "./record.js";

for await (const record of readRecords()) {
  const row = { ...envelopeOf(record), ...objectOf(record), metadata: objectOf(record).metadata ?? {} };
  await prisma.subscription.upsert({ where: { id: record.id }, create: { id: record.id, ...row }, update: row });
}
await prisma.$disconnect();
