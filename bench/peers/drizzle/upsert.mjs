// Drizzle on postgres.js, as the records API's own guides show it. Option `rows`: 1 is a statement for each record, else so many.
// The other end of the pipe, and what it expects, is bench/child.py.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { lte, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/postgres-js";
import { bigint, boolean, integer, jsonb, pgSchema, text, timestamp } from "drizzle-orm/pg-core";
import postgres from "postgres";

const place = JSON.parse(process.argv[2]);
const url = new URL(place.database_url.replace("@/", "@localhost/"));
const address = {
  database: url.pathname.slice(1),
  username: url.username,
  path: `${url.searchParams.get("host")}/.s.PGSQL.${url.searchParams.get("port")}`,
};

const time = (name) => timestamp(name, { withTimezone: true });
const subscription = pgSchema(place.schema).table("subscription", {
  id: text("id").primaryKey(),
  upstreamId: text("upstream_id"),
  internalId: text("internal_id"),
  syncId: text("sync_id"),
  updatedIdx: bigint("updated_idx", { mode: "number" }),
  deleted: boolean("deleted"),
  recordInsertedAt: time("record_inserted_at"),
  upstreamCreatedAt: time("upstream_created_at"),
  upstreamUpdatedAt: time("upstream_updated_at"),
  stripeCustomerId: text("stripe_customer_id"),
  planId: text("plan_id"),
  quantity: integer("quantity"),
  status: text("status"),
  currentPeriodEnd: time("current_period_end"),
  metadata: jsonb("metadata"),
  data: jsonb("data"),
  insertedAt: time("inserted_at").defaultNow(),
  updatedAt: time("updated_at").defaultNow(),
});

const incoming = Object.fromEntries(
  Object.entries(subscription)
    .filter(([key]) => !["id", "insertedAt", "updatedAt"].includes(key))
    .map(([key, column]) => [key, sql`excluded.${sql.identifier(column.name)}`]),
);

function row(record) {
  const { data } = record;
  const item = data.items.data[0];
  return {
    id: record.id,
    upstreamId: record.upstream_id,
    internalId: record.sync.external_id,
    syncId: record.sync.id,
    updatedIdx: record.updated_idx,
    deleted: record.deleted,
    recordInsertedAt: new Date(record.inserted_at),
    upstreamCreatedAt: new Date(record.upstream_created_at),
    upstreamUpdatedAt: new Date(record.upstream_updated_at),
    stripeCustomerId: data.customer,
    planId: item.price.id,
    quantity: item.quantity,
    status: data.status,
    currentPeriodEnd: new Date(data.current_period_end * 1000),
    metadata: data.metadata,
    data,
  };
}

async function upsert(database, rows) {
  await database
    .insert(subscription)
    .values(rows)
    .onConflictDoUpdate({
      target: subscription.id,
      set: { ...incoming, updatedAt: sql`now()` },
      setWhere: lte(subscription.updatedIdx, sql`excluded.updated_idx`),
    });
}

async function work(task) {
  const client = postgres({ ...address, max: 1, onnotice: () => {} });
  const database = drizzle(client);
  for (const page of task.pages) {
    const rows = JSON.parse(readFileSync(page)).map(row);
    for (let start = 0; start < rows.length; start += place.options.rows) {
      await upsert(database, rows.slice(start, start + place.options.rows));
    }
  }
  await client.end();
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

say("ready");
let task;
for await (const line of createInterface({ input: process.stdin })) {
  if (line !== "go") {
    task = JSON.parse(line);
    say("prepared");
    continue;
  }
  const started = performance.now();
  const cpuStarted = process.cpuUsage();
  await work(task);
  const cpu = process.cpuUsage(cpuStarted);
  say({
    seconds: (performance.now() - started) / 1000,
    cpu_seconds: (cpu.user + cpu.system) / 1e6,
    peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    notes: {},
  });
}
