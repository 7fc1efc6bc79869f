/** Prints the table, a row a line, as Prisma reads it. */
import { prisma } from "./database.js";
import { lineOf } from "./record.js";

for (const row of await prisma.subscription.findMany({ orderBy: { id: "asc" } })) console.log(lineOf(row));
await prisma.$disconnect();
