import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sandbox.records import Change, FieldInfo, SyncInfo

pytestmark = pytest.mark.slow

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)

INITIAL_DIGEST = "eb3757b0fd5619e6c2662f95523e76e6ca94bdd992cdf7722d251d01044cd9ea"
CHANGES_DIGEST = "91237f67f8baaf54524aefb0afadcafb244d7602e9e2f0cc938a1977db1de947"


@pytest.fixture(scope="module")
def population() -> Population:
    """Before anything happened; for tests that only look."""
    return Population(1)


@pytest.fixture(scope="module")
def initial(population) -> tuple[Change, ...]:
    return tuple(population.initial())


@pytest.fixture(scope="module")
def happened() -> tuple[Change, ...]:
    """The first 2,000 changes after `initial`."""
    return tuple(changes(Population(1), 2_000))


def changes(population: Population, count: int) -> Iterator[Change]:
    for minute in range(count):
        yield population.next_change(NOVEMBER + timedelta(minutes=minute))


def digest(made: Iterable[Change]) -> str:
    """Of everything that the stream gets to see."""
    sha256 = hashlib.sha256()
    for change in made:
        times = (change.changed_at, change.upstream_created_at, change.upstream_updated_at)
        head = (
            change.collection_id,
            change.sync.id,
            change.upstream_id,
            change.deleted,
            *(time and time.isoformat() for time in times),
        )
        sha256.update(json.dumps(head).encode() + (change.data or b"") + b"\n")
    return sha256.hexdigest()


def objects(made: Iterable[Change]) -> Iterator[tuple[Change, dict[str, Any]]]:
    for change in made:
        if change.data is not None:
            yield change, json.loads(change.data)


def test_a_seed_always_gives_the_same_objects_byte_for_byte(initial):
    assert digest(initial) == INITIAL_DIGEST


def test_a_seed_always_gives_the_same_changes_byte_for_byte(happened):
    assert digest(happened) == CHANGES_DIGEST


def test_another_seed_gives_other_objects():
    assert digest(Population(2).initial()) != INITIAL_DIGEST


def test_there_are_about_twelve_thousand_objects_in_eighteen_collections(initial):
    counts = Counter(change.collection_id for change in initial)

    assert counts == {
        "stripe:product": 90,
        "stripe:price": 180,
        "stripe:customer": 900,
        "stripe:subscription": 900,
        "stripe:invoice": 1_440,
        "stripe:charge": 1_440,
        "salesforce:account": 480,
        "salesforce:contact": 960,
        "salesforce:opportunity": 660,
        "hubspot:company": 480,
        "hubspot:contact": 900,
        "hubspot:deal": 660,
        "github:user": 300,
        "github:repository": 60,
        "github:release": 240,
        "github:issue": 900,
        "github:pull_request": 600,
        "github:comment": 1_080,
    }


def test_what_is_there_before_has_fixed_dates_in_every_month_in_the_order_of_the_stream(initial):
    times = [change.changed_at for change in initial]
    months = {(time.year, time.month) for time in times}

    assert times == sorted(times)
    assert times[0] >= datetime(2024, 1, 5, tzinfo=UTC)
    assert times[-1] < datetime(2026, 10, 31, tzinfo=UTC)
    assert months == {(2024 + month // 12, month % 12 + 1) for month in range(34)}


def test_an_object_changed_upstream_before_its_change_entered_the_stream(initial):
    late = [
        change
        for change in initial
        if change.upstream_created_at is None
        or change.upstream_created_at > (change.upstream_updated_at or change.changed_at)
        or (change.upstream_updated_at or change.upstream_created_at) >= change.changed_at
    ]

    assert late == []


def test_an_object_stands_once_in_what_is_there_before(initial):
    keys = Counter((change.sync.id, change.collection_id, change.upstream_id) for change in initial)

    assert keys.most_common(1)[0][1] == 1


def test_upstream_ids_repeat_across_syncs_only_where_the_provider_repeats_them(initial):
    syncs = defaultdict(set)
    for change in initial:
        syncs[change.collection_id, change.upstream_id].add(change.sync.id)

    repeated = {collection_id for (collection_id, _), found in syncs.items() if len(found) > 1}

    assert repeated == {"stripe:product", "hubspot:contact", "github:user"}


def test_one_object_in_twenty_is_deleted_with_and_without_its_last_state(initial):
    deleted = [change for change in initial if change.deleted]
    bare = [change for change in deleted if change.data is None]

    assert 0.04 < len(deleted) / len(initial) < 0.06
    assert 0.3 < len(bare) / len(deleted) < 0.5
    assert all(change.data is not None for change in initial if not change.deleted)


def test_objects_have_the_size_of_real_ones(initial):
    sizes = sorted(len(change.data) for change in initial if change.data is not None)

    assert sizes[len(sizes) // 20] > 500
    assert 1_000 < sizes[len(sizes) // 2] < 2_500
    assert sizes[-1] < 4_000


def test_the_upstream_id_is_the_id_of_the_object(initial):
    differing = [
        change
        for change, made in objects(initial)
        if str(made["Id" if change.collection_id.startswith("salesforce:") else "id"]) != change.upstream_id
    ]

    assert differing == []


def references(collection_id: str, made: dict[str, Any]) -> Iterator[tuple[str, str | int | None]]:
    """The collections and ids that an object refers to."""
    match collection_id:
        case "stripe:price":
            yield "stripe:product", made["product"]
        case "stripe:subscription":
            yield "stripe:customer", made["customer"]
            yield "stripe:price", made["items"]["data"][0]["price"]["id"]
            yield "stripe:product", made["items"]["data"][0]["price"]["product"]
        case "stripe:invoice":
            yield "stripe:customer", made["customer"]
            yield "stripe:subscription", made["subscription"]
        case "stripe:charge":
            yield "stripe:customer", made["customer"]
            yield "stripe:invoice", made["invoice"]
        case "salesforce:account":
            yield "salesforce:account", made["ParentId"]
        case "salesforce:contact":
            yield "salesforce:account", made["AccountId"]
        case "salesforce:opportunity":
            yield "salesforce:account", made["AccountId"]
            yield "salesforce:contact", made["ContactId"]
        case "hubspot:contact":
            yield "hubspot:company", made["properties"]["associatedcompanyid"]
        case "hubspot:deal":
            yield "hubspot:company", made["associations"]["companies"]["results"][0]["id"]
            yield "hubspot:contact", made["associations"]["contacts"]["results"][0]["id"]
        case "github:release":
            yield "github:user", made["author"]["id"]
        case "github:issue" | "github:pull_request" | "github:comment":
            yield "github:user", made["user"]["id"]


def test_what_an_object_refers_to_exists_in_its_sync(initial, happened):
    made = [*initial, *happened]
    known = {(change.sync.id, change.collection_id, change.upstream_id) for change in made}

    checked: Counter[tuple[str, str]] = Counter()
    dangling = []
    for change, made_object in objects(made):
        for collection_id, upstream_id in references(change.collection_id, made_object):
            checked[change.collection_id, collection_id] += 1
            if upstream_id is not None and (change.sync.id, collection_id, str(upstream_id)) not in known:
                dangling.append((change.collection_id, change.upstream_id, collection_id, upstream_id))

    assert dangling == []
    assert len(checked) == 19


def test_addresses_of_issues_pull_requests_and_repositories_exist_in_the_sync(initial):
    known = {(change.sync.id, made["url"]) for change, made in objects(initial) if "url" in made}
    dangling = [
        (change.upstream_id, key)
        for change, made in objects(initial)
        for key in ("issue_url", "pull_request_url", "repository_url")
        if change.collection_id.startswith("github:") and key in made and (change.sync.id, made[key]) not in known
    ]

    assert dangling == []


def test_what_happens_next_is_an_update_a_creation_or_a_deletion_in_fair_proportion(initial, happened):
    live = {(change.sync.id, change.collection_id, change.upstream_id) for change in initial if not change.deleted}
    kinds: Counter[str] = Counter()

    for change in happened:
        key = (change.sync.id, change.collection_id, change.upstream_id)
        if change.deleted:
            kinds["bare tombstone" if change.data is None else "deletion"] += 1
            live.remove(key)
        else:
            kinds["update" if key in live else "creation"] += 1
            live.add(key)

    assert 1_300 < kinds["update"] < 1_560
    assert 240 < kinds["creation"] < 400
    assert 90 < kinds["deletion"] < 200
    assert 50 < kinds["bare tombstone"] < 150


def test_an_update_changes_the_object(initial, happened):
    last = {(change.sync.id, change.collection_id, change.upstream_id): change.data for change in initial}

    same = []
    for change in happened:
        key = (change.sync.id, change.collection_id, change.upstream_id)
        if not change.deleted and last.get(key) == change.data:
            same.append(key)
        last[key] = change.data

    assert same == []


def test_a_change_happens_when_it_is_said_to(happened):
    assert [change.changed_at for change in happened[:3]] == [
        NOVEMBER,
        NOVEMBER + timedelta(minutes=1),
        NOVEMBER + timedelta(minutes=2),
    ]


def test_fractions_keep_their_digits_through_a_change(initial, happened):
    before = {change.upstream_id: change.data for change in initial if change.collection_id == "salesforce:account"}
    updates = [
        change
        for change in happened
        if change.collection_id == "salesforce:account" and not change.deleted and change.upstream_id in before
    ]

    def revenue(data: bytes) -> bytes:
        return data.partition(b'"AnnualRevenue":')[2].partition(b",")[0]

    assert any(revenue(change.data).endswith(b"0") for change in updates)
    assert all(revenue(change.data) == revenue(before[change.upstream_id]) for change in updates)


def test_each_provider_has_three_syncs_of_which_one_has_no_external_id(population):
    syncs = population.syncs()

    by_provider = defaultdict(list)
    for sync in syncs:
        by_provider[sync.provider].append(sync.external_id)
    assert by_provider == {
        provider: ["acct_1001", "acct_ø_1002", None] for provider in ("stripe", "salesforce", "hubspot", "github")
    }
    assert len({sync.id for sync in syncs}) == 12
    assert syncs[3] == SyncInfo(
        id="9e2b7c08-5f41-47aa-8d3e-c1f0b7d9b201",
        name="Alder Analytics",
        provider="salesforce",
        stream_id="default",
        collection_ids=("salesforce:account", "salesforce:contact", "salesforce:opportunity"),
        external_id="acct_1001",
        metadata={"plan": "enterprise", "region": "eu-north-1"},
        initial_backfill_completed_at=datetime(2024, 1, 5, tzinfo=UTC),
    )


def test_fields_are_the_keys_of_the_objects_with_their_types(population):
    fields = population.fields("hubspot:deal")

    assert fields == (
        FieldInfo("hubspot:deal:id", "id", "id", "string", primary_key=True),
        FieldInfo("hubspot:deal:properties", "properties", "properties", "object"),
        FieldInfo("hubspot:deal:createdAt", "createdAt", "createdAt", "string"),
        FieldInfo("hubspot:deal:updatedAt", "updatedAt", "updatedAt", "string"),
        FieldInfo("hubspot:deal:archived", "archived", "archived", "boolean"),
        FieldInfo("hubspot:deal:associations", "associations", "associations", "object"),
    )


def test_a_field_that_is_null_in_one_object_has_the_type_it_has_in_another(population):
    types = {field.name: field.type for field in population.fields("salesforce:opportunity")}

    assert types["Amount"] == "number"
    assert types["NextStep"] == "string"
    assert types["CampaignId"] == "null"


def test_an_unknown_collection_has_no_fields(population):
    assert population.fields("stripe:dispute") == ()
