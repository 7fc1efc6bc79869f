import { PrismaPg } from "@prisma/adapter-pg7";
import pg from "pg";
import { defineConfig } from "prisma/config";

const MINUTE = 60_000;

// The engine sets a timer of a minute and forgets it: the command would end that much later.
const { setTimeout } = globalThis;
globalThis.setTimeout = ((call: () => void, delay?: number, ...rest: unknown[]) => {
  const timer = setTimeout(call, delay, ...rest) as unknown as NodeJS.Timeout;
  return delay === MINUTE ? timer.unref() : timer;
}) as typeof setTimeout;

const CHAR = 18;
const TEXT = 25;

/** Two things that `prisma db push` reads of Postgres' catalogs and does not know: here it need not. */
class CatalogClient extends pg.Client {
  constructor(config?: pg.ClientConfig) {
    super(config);
    const { connection } = this as unknown as { connection: NodeJS.EventEmitter };
    connection.on("rowDescription", ({ fields }: { fields: pg.FieldDef[] }) => {
      // Columns of type "char", which no adapter reads, say that they are texts.
      for (const field of fields) if (field.dataTypeID === CHAR) field.dataTypeID = TEXT;
    });
  }

  // biome-ignore lint: pg's own signature has a dozen overloads
  query(query: any, ...rest: any[]): any {
    // Postgres 18 lists its NOT NULLs as constraints, of a kind at which Prisma 6 gives up.
    const text = query.text?.replace("contype NOT IN ('p', 'u', 'f')", "contype NOT IN ('p', 'u', 'f', 'n')");
    return (super.query as any)(text ? Object.assign(query, { text }) : query, ...rest);
  }
}

// Nor does it close its connections, which end by themselves after ten seconds.
const options = { connectionString: process.env.DATABASE_URL, Client: CatalogClient, idleTimeoutMillis: 100 };

export default defineConfig({
  schema: "prisma/schema.prisma",
  engine: "js",
  experimental: { adapter: true },
  // Adapter 7: the one of Prisma's own version cannot read the type `name` of the catalogs.
  adapter: async () => new PrismaPg(options as unknown as ConstructorParameters<typeof PrismaPg>[0]),
});
