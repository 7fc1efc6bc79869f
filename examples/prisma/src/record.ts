import { createInterface } from "node:readline";

/** A record of `stripe:subscription`, as the records API gives it. */
export interface SubscriptionRecord {
  id: string;
  upstream_id: string;
  sync: { id: string; external_id: string | null };
  updated_idx: number;
  deleted: boolean;
  upstream_created_at: string | null;
  upstream_updated_at: string | null;
  data: Partial<Subscription> | null;
}

interface Subscription {
  customer: string;
  status: string;
  items: { data: { quantity?: number; price: { id: string } }[] };
  current_period_end: number;
  metadata: Record<string, string>;
}

const date = (text: string | null) => (text === null ? null : new Date(text));

/** What every record says, a bare tombstone too. */
export function envelopeOf(record: SubscriptionRecord) {
  return {
    upstreamId: record.upstream_id,
    internalId: record.sync.external_id,
    syncId: record.sync.id,
    updatedIdx: BigInt(record.updated_idx),
    deleted: record.deleted,
    upstreamCreatedAt: date(record.upstream_created_at),
    upstreamUpdatedAt: date(record.upstream_updated_at),
  };
}

/** What only the provider's object says. */
export function objectOf({ data }: SubscriptionRecord) {
  const item = data?.items?.data[0];
  return {
    customerId: data?.customer ?? null,
    status: data?.status ?? null,
    planId: item?.price.id ?? null,
    quantity: item?.quantity ?? null,
    currentPeriodEnd: data?.current_period_end == null ? null : new Date(data.current_period_end * 1000),
    metadata: data?.metadata ?? null,
  };
}

/** A deletion that carries no object: the row keeps the one that it has. */
export function isBareTombstone({ deleted, data }: SubscriptionRecord): boolean {
  return deleted && Object.keys(data ?? {}).length === 0;
}

/** Records on standard input, one JSON object a line. */
export async function* readRecords(): AsyncGenerator<SubscriptionRecord> {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim()) yield JSON.parse(line);
  }
}

/** A row as one line of JSON: a bigint as a string, since a number of JSON would lose digits. */
export function lineOf(row: object): string {
  return JSON.stringify(row, (_, value) => (typeof value === "bigint" ? String(value) : value));
}
