"""The records: raw Stripe subscriptions in the envelope of the records API, about 2.4 kB each, written as page files.

No module of the pipeline is imported here, for the process that serves the pages would need a second to start.

Every record is made from its number and its revision alone, so that the same numbers always give the same bytes, on any machine. Ids,
references and the tenant's own metadata are random; keys and enumerations repeat, as they do at the provider.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import repeat
from pathlib import Path

YEAR = 2024
PAGE_RECORDS = 1_000
FIRST_VERSION = 2_745_327_036
REVISION_STEP = 10**12
"""Between the versions of one record; below it a version tells the record's number."""

REVISIONS: Mapping[str, Callable[[int], int]] = {
    "new": lambda number: 0,
    "changed": lambda number: 1,
    "one_percent": lambda number: 2 if number % 100 == 37 else 1,
}
"""The variants of the stream: the revision that each record has. To be read in this order; the last one is read again."""

TENANTS, CUSTOMERS_PER_TENANT, PLANS = 25, 4_000, 40
STATUSES = ("active", "past_due", "trialing", "canceled")

MANY_PROVIDER = "many"
MANY_COLLECTIONS = tuple(f"c{number:02}" for number in range(20))
"""Of a run of many collections, each with the same records."""


def write_pages(folder: Path, *, records: int, variants: Iterable[str] = tuple(REVISIONS)) -> None:
    """A folder for each variant, in it a file for each page, named by its number: the JSON text of an array of records."""
    for variant in variants:
        (folder / variant).mkdir(parents=True)
        with ProcessPoolExecutor() as processes:
            starts = range(0, records, PAGE_RECORDS)
            list(processes.map(_write_page, repeat(folder / variant), repeat(variant), starts, repeat(records), chunksize=8))


def _write_page(folder: Path, variant: str, start: int, records: int) -> None:
    revision_of = REVISIONS[variant]
    numbers = range(start, min(records, start + PAGE_RECORDS))
    page = ",".join(record(number, revision_of(number), of=records) for number in numbers)
    (folder / f"{start // PAGE_RECORDS:05}.json").write_text(f"[{page}]", encoding="ascii")


def page_files(folder: Path, variant: str, *, records: int | None = None) -> list[Path]:
    """The files of a variant in order: all of them, or those of its first `records`."""
    files = sorted((folder / variant).iterdir())
    return files if records is None else files[: -(-records // PAGE_RECORDS)]


def record(number: int, revision: int, *, of: int) -> str:
    """One record's JSON text. `of` is how many there are: they enter the stream evenly over the year."""
    fixed, fresh = _letters(f"record {number}"), _letters(f"record {number} revision {revision}")
    tenant = number % TENANTS
    entered_at = datetime(YEAR, 1, 1, tzinfo=UTC) + timedelta(days=366) * (number / of)
    created = 1_690_000_000 + number * 311 % 10_000_000
    return (
        f'{{"id":"{fixed[:24]}","collection_id":"stripe:subscription","provider":"stripe","stream_id":"default",'
        f'"sync":{{"id":"sync_{_shared_letters(f"tenant {tenant}")[:24]}","external_id":"tenant-{tenant}","metadata":{{}}}},'
        f'"upstream_id":"sub_{fixed[24:48]}","updated_idx":{FIRST_VERSION + number + revision * REVISION_STEP},"deleted":false,'
        f'"inserted_at":"{entered_at.isoformat(timespec="milliseconds")}","upstream_created_at":"{_iso(created)}",'
        f'"upstream_updated_at":"{_iso(created + 86_400 * revision)}",'
        f'"data":{_subscription(number, revision, fixed=fixed, fresh=fresh, created=created)}}}'
    )


def _subscription(number: int, revision: int, *, fixed: str, fresh: str, created: int) -> str:
    subscription_id = "sub_" + fixed[24:48]
    customer = number % TENANTS * CUSTOMERS_PER_TENANT + number * 7919 % CUSTOMERS_PER_TENANT
    period_start = created + 2_592_000 * revision
    # One in twenty has several items, and so is half as long again.
    items = ",".join(
        _item(number + extra, revision, subscription_id=subscription_id, item_id="si_" + fixed[48 + extra : 62 + extra])
        for extra in range(3 if number % 20 == 7 else 1)
    )
    return (
        f'{{"id":"{subscription_id}","object":"subscription","application":null,'
        f'"automatic_tax":{{"enabled":false,"liability":null}},"billing_cycle_anchor":{created},'
        f'"cancel_at":null,"cancel_at_period_end":false,"canceled_at":null,"cancellation_details":{{"comment":null,"feedback":null,'
        f'"reason":null}},"collection_method":"charge_automatically","created":{created},"currency":"usd",'
        f'"current_period_end":{period_start + 2_592_000},"current_period_start":{period_start},'
        f'"customer":"cus_{_letters(f"customer {customer}")[:14]}",'
        f'"default_payment_method":"pm_{fixed[70:94]}","default_tax_rates":[],'
        f'"description":"{fixed[94:134]}","discount":null,"ended_at":null,'
        f'"items":{{"object":"list","data":[{items}],"has_more":false,"total_count":1,'
        f'"url":"/v1/subscription_items?subscription={subscription_id}"}},"latest_invoice":"in_{fresh[:24]}","livemode":true,'
        f'"metadata":{{"account":"{fixed[134:150]}","note":"{fresh[24:84]}"}},"next_pending_invoice_item_invoice":null,'
        f'"pause_collection":null,"payment_settings":{{"payment_method_options":null,'
        f'"payment_method_types":null,"save_default_payment_method":"off"}},"pending_update":null,'
        f'"start_date":{created},"status":"{STATUSES[(number + revision) % len(STATUSES)]}",'
        f'"transfer_data":null,"trial_end":null,"trial_settings":{{"end_behavior":{{"missing_payment_method":"create_invoice"}}}},'
        f'"trial_start":null}}'
    )


def _item(number: int, revision: int, *, subscription_id: str, item_id: str) -> str:
    plan = _shared_letters(f"plan {number % PLANS}")
    return (
        f'{{"id":"{item_id}","object":"subscription_item","created":{1_690_000_001 + number % 10_000_000},'
        f'"metadata":{{}},"price":{{"id":"price_{plan[:24]}","object":"price","active":true,"billing_scheme":"per_unit",'
        f'"created":1680000000,"currency":"usd","livemode":true,"lookup_key":null,"metadata":{{}},"nickname":null,'
        f'"product":"prod_{plan[24:38]}","recurring":{{"interval":"month","interval_count":1,"trial_period_days":null,'
        f'"usage_type":"licensed"}},"tax_behavior":"unspecified","tiers_mode":null,"transform_quantity":null,"type":"recurring",'
        f'"unit_amount":1500,"unit_amount_decimal":"1500"}},"quantity":{1 + (number + revision) % 9},'
        f'"subscription":"{subscription_id}","tax_rates":[]}}'
    )


def _letters(seed: str) -> str:
    """200 letters and digits that look random and always are the same for one seed."""
    return base64.b64encode(hashlib.shake_128(seed.encode()).digest(150), b"aZ").decode()


@cache
def _shared_letters(seed: str) -> str:
    """Of what many records refer to."""
    return _letters(seed)


def _iso(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
