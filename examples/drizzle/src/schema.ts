import { bigint, boolean, index, integer, jsonb, pgTable, text, timestamp } from "drizzle-orm/pg-core";

const time = (name: string) => timestamp(name, { withTimezone: true });

export const subscription = pgTable(
  "subscription",
  {
    id: text("id").primaryKey(),
    upstreamId: text("upstream_id").notNull(),
    internalId: text("internal_id"),
    syncId: text("sync_id").notNull(),
    updatedIdx: bigint("updated_idx", { mode: "bigint" }).notNull(),
    deleted: boolean("deleted").notNull(),
    upstreamCreatedAt: time("upstream_created_at"),
    upstreamUpdatedAt: time("upstream_updated_at"),
    customerId: text("customer_id"),
    status: text("status"),
    planId: text("plan_id"),
    quantity: integer("quantity"),
    currentPeriodEnd: time("current_period_end"),
    metadata: jsonb("metadata"),
    insertedAt: time("inserted_at").notNull().defaultNow(),
    updatedAt: time("updated_at").notNull().defaultNow(),
  },
  (table) => [index("subscription_upstream").on(table.syncId, table.upstreamId)],
);
