"""What a record costs on its way from page bytes to frame: `python -m bench.normalize`.

CPU microseconds a record, best and median of some rounds: the best is the cost, the distance to the median is the noise of the
machine. The floor is what msgspec needs to look at every byte of a page once.
"""

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sequin_pipeline.catalog import Collection, Column, Windows, default_table, parse_path
from sequin_pipeline.normalize import Normalizer
from sequin_pipeline.page_reader import PageReader
from sequin_pipeline.record_reader import RecordReader

PAGES = 5
PAGE_RECORDS = 1000
ROUNDS = 25

COLLECTION = Collection(
    "stripe",
    "subscription",
    default_table("stripe", "subscription"),
    Windows("month", datetime(2024, 1, 1, tzinfo=UTC)),
    (
        Column("stripe_customer_id", parse_path("customer"), "text"),
        Column("plan_id", parse_path("items.data[0].price.id"), "text"),
        Column("quantity", parse_path("items.data[0].quantity"), "integer"),
        Column("status", parse_path("status"), "text", is_required=True),
        Column("current_period_end", parse_path("current_period_end"), "timestamptz", time_format="epoch_seconds"),
        Column("metadata", parse_path("metadata"), "jsonb"),
    ),
)


def main() -> None:
    pages = [page(start) for start in range(0, PAGES * PAGE_RECORDS, PAGE_RECORDS)]
    elements = [[bytes(raw) for raw in msgspec.json.decode(each, type=list[msgspec.Raw])][:100] for each in pages]
    reader, records = PageReader(COLLECTION), RecordReader(COLLECTION)
    print(f"{PAGES} pages of {PAGE_RECORDS} records of {len(pages[0]) // PAGE_RECORDS} bytes; CPU microseconds a record")
    show("floor: every byte looked at once", msgspec.json.Decoder(list[msgspec.Raw]).decode, pages)
    show("page to typed columns", reader.read, pages)
    show("page to frame, hash included", Normalizer(COLLECTION), pages)
    show("one by one, as after a fault", lambda raws: [records.read(raw) for raw in raws], elements, records=100)


def show(label: str, stage: Callable[[Any], object], pages: Sequence[object], *, records: int = PAGE_RECORDS) -> None:
    costs = sorted(cpu_seconds(stage, pages) / len(pages) / records * 1e6 for _ in range(ROUNDS))
    print(f"{label:34} {costs[0]:6.2f} best {statistics.median(costs):6.2f} median")


def cpu_seconds(stage: Callable[[Any], object], pages: Sequence[object]) -> float:
    started = time.process_time()
    for each in pages:
        stage(each)
    return time.process_time() - started


def page(start: int) -> bytes:
    """Records of about the size and shape of Stripe's subscriptions, the same at every run."""
    letters = random.Random(start)
    return json.dumps([record(start + at, letters) for at in range(PAGE_RECORDS)], separators=(",", ":")).encode()


def record(at: int, letters: random.Random) -> dict[str, object]:
    def name(prefix: str, length: int) -> str:
        return prefix + "".join(letters.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))

    price = {
        "id": name("price_", 24),
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": 1_680_000_000,
        "currency": "usd",
        "livemode": True,
        "metadata": {},
        "product": name("prod_", 14),
        "recurring": {"interval": "month", "interval_count": 1, "trial_period_days": None, "usage_type": "licensed"},
        "tax_behavior": "unspecified",
        "type": "recurring",
        "unit_amount": 1500,
        "unit_amount_decimal": "1500",
    }
    item = {
        "id": name("si_", 14),
        "object": "subscription_item",
        "created": 1_690_000_001,
        "metadata": {},
        "plan": price | {"object": "plan", "interval": "month", "amount_decimal": "1500"},
        "price": price,
        "quantity": letters.randrange(1, 9),
        "subscription": name("sub_", 24),
    }
    subscription = {
        "id": name("sub_", 24),
        "object": "subscription",
        "application": None,
        "automatic_tax": {"enabled": False, "liability": None},
        "billing_cycle_anchor": 1_700_000_000,
        "cancel_at_period_end": False,
        "collection_method": "charge_automatically",
        "created": 1_690_000_000 + at,
        "currency": "usd",
        "current_period_end": 1_700_000_000 + at,
        "current_period_start": 1_690_000_000,
        "customer": name("cus_", 14),
        "default_payment_method": name("pm_", 24),
        "description": name("", 40),
        "items": {"object": "list", "data": [item], "has_more": False, "total_count": 1, "url": "/v1/subscription_items"},
        "latest_invoice": name("in_", 24),
        "livemode": True,
        "metadata": {"tenant": name("", 12), "note": name("", 60)},
        "payment_settings": {"payment_method_options": None, "save_default_payment_method": "off"},
        "start_date": 1_690_000_000,
        "status": "active",
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "transfer_data": None,
    }
    return {
        "id": name("", 24),
        "collection_id": "stripe:subscription",
        "provider": "stripe",
        "stream_id": name("", 36),
        "sync": {"id": name("", 36), "external_id": name("", 10), "metadata": {}},
        "upstream_id": subscription["id"],
        "updated_idx": 2_745_327_036 + at,
        "deleted": False,
        "inserted_at": "2024-03-01T12:00:00.123456Z",
        "upstream_created_at": "2024-01-01T00:00:00Z",
        "upstream_updated_at": "2024-02-01T00:00:00Z",
        "data": subscription,
    }


if __name__ == "__main__":
    main()
