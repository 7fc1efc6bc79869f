"""The definitions against the objects that they are for, checked with the standard library only: no cast of ours has a say."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import yaml

from sequin_pipeline.catalog import Collection
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.records.fields import RECORD_COLUMNS
from sequin_pipeline.sandbox.population import Population
from tests.support.checkout import CHECKOUT

DEFS = CHECKOUT / "sequin_pipeline" / "defs"
RECORDS = CHECKOUT / "tests" / "records" / "github.jsonl"

SHIPPED = {
    "stripe": ["subscription", "customer", "invoice", "product", "price", "charge"],
    "salesforce": ["account", "contact", "opportunity"],
    "hubspot": ["contact", "company", "deal"],
    "github": ["issue", "pull_request", "repository", "user", "release", "comment"],
}
COLLECTION_IDS = [f"{provider}:{name}" for provider, names in SHIPPED.items() for name in names]

MONEY = {
    "stripe:subscription": {"unit_amount": "bigint"},
    "stripe:customer": {"balance": "bigint"},
    "stripe:invoice": {"total": "bigint", "amount_due": "bigint", "tax": "bigint"},
    "stripe:price": {"unit_amount": "bigint", "unit_amount_decimal": "numeric"},
    "stripe:charge": {"amount": "bigint", "amount_refunded": "bigint"},
    "salesforce:account": {"annual_revenue": "numeric"},
    "salesforce:opportunity": {"amount": "numeric", "expected_revenue": "numeric"},
    "hubspot:contact": {"revenue": "numeric"},
    "hubspot:company": {"annual_revenue": "numeric"},
    "hubspot:deal": {"amount": "numeric"},
}


def declared() -> dict[str, dict[str, Any]]:
    """The collections as the YAML says them, by id."""
    found = {}
    for path in sorted(DEFS.glob("*/defs.yaml")):
        attributes = yaml.safe_load(path.read_text(encoding="utf-8"))["attributes"]
        for name, collection in attributes["collections"].items():
            found[f"{attributes['provider']}:{name}"] = collection
    return found


DECLARED = declared()
COLUMNS = [(collection_id, name) for collection_id, collection in DECLARED.items() for name in collection["columns"]]


@pytest.fixture(scope="module")
def collections() -> Mapping[str, Collection]:
    return {collection.id: collection for collection in load_collections({}).values()}


@pytest.fixture(scope="module")
def objects() -> Mapping[str, list[dict[str, Any]]]:
    """What the sandbox's objects are, by collection; fractions as decimals."""
    found: dict[str, list[dict[str, Any]]] = {collection_id: [] for collection_id in COLLECTION_IDS}
    for change in Population(1).initial():
        if change.data is not None:
            found[change.collection_id].append(json.loads(change.data, parse_float=Decimal))
    return found


def at(made: object, path: str) -> object:
    """What stands at a path; None where it leads nowhere."""
    for name, index, quoted in re.findall(r"([A-Za-z_]\w*)|\[(\d+)\]|\['(.*?)'\]", path):
        if index:
            made = made[int(index)] if isinstance(made, list) and int(index) < len(made) else None
        else:
            made = made.get(name or quoted) if isinstance(made, dict) else None
    return made


def is_time(value: Any, column: Mapping[str, Any]) -> bool:
    match column.get("format", "iso"):
        case "iso":
            return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None
        case "epoch_seconds":
            return 2020 < datetime.fromtimestamp(int(value), UTC).year < 2030
        case "epoch_milliseconds":
            return 2020 < datetime.fromtimestamp(int(value) / 1_000, UTC).year < 2030
    return False


def is_integer(value: object, bits: int) -> bool:
    return (
        not isinstance(value, bool) and re.fullmatch(r"-?\d+", str(value)) is not None and abs(int(str(value))) < 2 ** (bits - 1)
    )


FITS: Mapping[str, Callable[[Any, Mapping[str, Any]], bool]] = {
    "text": lambda value, _: isinstance(value, str | int | bool | Decimal),
    "boolean": lambda value, _: value in (True, False, "true", "false") and isinstance(value, bool | str),
    "integer": lambda value, _: is_integer(value, 32),
    "bigint": lambda value, _: is_integer(value, 64),
    "numeric": lambda value, _: not isinstance(value, bool) and Decimal(value).is_finite(),
    "date": lambda value, _: date.fromisoformat(value).isoformat() == value,
    "timestamptz": is_time,
    "text[]": lambda value, _: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "jsonb": lambda value, _: isinstance(value, dict | list),
}


def test_the_shipped_collections_are_these():
    assert sorted(DECLARED) == sorted(COLLECTION_IDS)


def test_the_package_loads_what_the_files_say(collections):
    loaded = {collection_id: [column.name for column in collection.columns] for collection_id, collection in collections.items()}

    assert loaded == {collection_id: list(collection["columns"]) for collection_id, collection in DECLARED.items()}


@pytest.mark.parametrize("provider", SHIPPED)
def test_a_provider_has_a_schedule_and_months_from_2024_on(provider):
    attributes = yaml.safe_load((DEFS / provider / "defs.yaml").read_text(encoding="utf-8"))["attributes"]

    assert attributes["schedule"] == "*/15 * * * *"
    assert attributes["windows"] == {"every": "month", "start": date(2024, 1, 1)}


@pytest.mark.parametrize("collection_id", COLLECTION_IDS)
def test_a_collection_has_at_least_eight_typed_columns_and_a_time(collection_id):
    columns = DECLARED[collection_id]["columns"].values()

    assert len(columns) >= 8
    assert "timestamptz" in {column["type"] for column in columns}


@pytest.mark.parametrize("collection_id", [each for each in COLLECTION_IDS if each not in ("github:user", "stripe:product")])
def test_a_collection_of_nested_objects_has_a_nested_path_and_json(collection_id):
    columns = DECLARED[collection_id]["columns"].values()

    assert any(re.search(r"[.\[]", column["path"]) for column in columns)
    assert "jsonb" in {column["type"] for column in columns}


@pytest.mark.parametrize("collection_id", COLLECTION_IDS)
def test_a_table_is_described_and_so_is_each_of_its_columns(collection_id):
    collection = DECLARED[collection_id]

    undescribed = [name for name, column in collection["columns"].items() if len(column.get("description", "")) < 4]

    assert undescribed == []
    assert collection["description"].startswith("One row per ")


@pytest.mark.parametrize(("collection_id", "money"), MONEY.items(), ids=MONEY)
def test_money_is_exact(collection_id, money):
    columns = DECLARED[collection_id]["columns"]

    assert {name: columns[name]["type"] for name in money} == money


def test_no_column_takes_the_name_of_one_of_the_record_or_is_not_snake_case():
    refused = [
        (collection_id, name)
        for collection_id, name in COLUMNS
        if name in RECORD_COLUMNS or not re.fullmatch(r"[a-z][a-z0-9_]*", name)
    ]

    assert refused == []


@pytest.mark.parametrize(("collection_id", "name"), COLUMNS)
def test_every_value_of_a_column_in_the_sandbox_is_of_its_type_and_there_is_one(collection_id, name, objects):
    column = DECLARED[collection_id]["columns"][name]
    values = [at(made, column["path"]) for made in objects[collection_id]]

    empty = [value for value in values if value == "" and column["type"] != "text"]
    given = [value for value in values if value is not None and value != ""]

    assert given
    assert not empty or column.get("empty_as_null") is True
    assert [value for value in given if not FITS[column["type"]](value, column)] == []
    assert not column.get("required") or len(given) == len(values)


def test_hubspot_has_emptied_values_in_columns_that_take_them_as_null(objects):
    columns = DECLARED["hubspot:deal"]["columns"]
    emptied = {
        name
        for name, column in columns.items()
        if column.get("empty_as_null") and any(at(made, column["path"]) == "" for made in objects["hubspot:deal"])
    }

    assert emptied >= {"amount", "days_to_close", "closes_at", "last_contacted_at"}


@pytest.mark.parametrize("collection_id", ["github:issue", "github:pull_request", "github:repository", "github:comment"])
def test_records_as_webhooks_send_them_fit_without_a_reject(collection_id, collections):
    lines = RECORDS.read_text(encoding="utf-8").splitlines()
    records = [line for line in lines if f'"{collection_id}"' in line]

    page = Normalizer(collections[collection_id])(f"[{','.join(records)}]".encode())

    assert [reject.reason for reject in page.rejects] == []
    assert len(page.frame) == len(records) > 0


def test_a_customer_that_stripe_was_asked_to_expand_is_refused(collections):
    record = {
        "id": "r1",
        "collection_id": "stripe:subscription",
        "sync": {"id": "s1", "external_id": None},
        "upstream_id": "sub_1",
        "updated_idx": 1,
        "deleted": False,
        "inserted_at": "2025-01-01T00:00:00Z",
        "data": {"id": "sub_1", "status": "active", "customer": {"id": "cus_1", "object": "customer"}},
    }

    page = Normalizer(collections["stripe:subscription"])(json.dumps([record]).encode())

    assert len(page.frame) == 0
    assert [reject.record_id for reject in page.rejects] == ["r1"]
