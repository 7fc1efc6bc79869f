import { EntitySchema } from "typeorm";

export interface Subscription {
  id: string;
  upstreamId: string;
  internalId: string | null;
  syncId: string;
  /** TypeORM reads a bigint as a string, which keeps every digit. */
  updatedIdx: string;
  deleted: boolean;
  upstreamCreatedAt: Date | null;
  upstreamUpdatedAt: Date | null;
  customerId: string | null;
  status: string | null;
  planId: string | null;
  quantity: number | null;
  currentPeriodEnd: Date | null;
  metadata: Record<string, string> | null;
  insertedAt: Date;
  updatedAt: Date;
}

export const SubscriptionEntity = new EntitySchema<Subscription>({
  name: "Subscription",
  tableName: "subscription",
  columns: {
    id: { type: "varchar", primary: true },
    upstreamId: { type: "varchar" },
    internalId: { type: "varchar", nullable: true },
    syncId: { type: "varchar" },
    updatedIdx: { type: "bigint" },
    deleted: { type: "boolean" },
    upstreamCreatedAt: { type: "timestamp", nullable: true },
    upstreamUpdatedAt: { type: "timestamp", nullable: true },
    customerId: { type: "varchar", nullable: true },
    status: { type: "varchar", nullable: true },
    planId: { type: "varchar", nullable: true },
    quantity: { type: "integer", nullable: true },
    currentPeriodEnd: { type: "timestamptz", nullable: true },
    metadata: { type: "jsonb", nullable: true },
    insertedAt: { type: "timestamp", createDate: true },
    updatedAt: { type: "timestamp", updateDate: true },
  },
  indices: [{ columns: ["syncId", "upstreamId"] }],
});
