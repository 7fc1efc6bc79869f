"""A mapping onto a table that is there: by name and type, said where it is a guess, and one that a run accepts."""

import pytest
import yaml

from sequin_pipeline.catalog import TableName
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.inference.mapping import propose_mapping
from sequin_pipeline.operate.inference.sample import Sample
from sequin_pipeline.operate.inference.tried import declared, tried
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.table.introspect import introspect
from tests.operate.inference.sampled import COLLECTION, sample_of
from tests.support.builders import record
from tests.support.reading import execute, query
from tests.table.unmanaged.tables import deliver

OBJECTS = [
    {"customer": f"c{n}", "currency": "usd", "created": 1_700_000_000 + n, "plan": {"id": n, "tier": "x"}, "note": "long enough"}
    for n in range(12)
]
TABLE = """create table "Orders" (
    "id" text primary key, "upstreamId" varchar, "externalId" text, "updatedIdx" bigint not null, "isDeleted" boolean not null,
    "demoCustomerId" varchar(5), currency varchar(3), "createdAt" timestamp(3), plan jsonb, "planTier" text, note varchar(4),
    shout text generated always as (upper(note)) stored, "mine" int not null default 1, "updatedAt" timestamptz not null)"""

WHOLE = "whole numbers from {} to {}"


def mapping_for(url: str, table: str, sample: Sample) -> str:
    execute(url, table)
    name = TableName("public", "Orders")
    with Warehouse(url).connect() as connection:
        shape = introspect(connection, name)
        assert shape is not None
        return tried(propose_mapping(connection, COLLECTION, sample, name, shape), sample)


def remarks_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()[1:] if line.strip().startswith("#")]


def test_names_and_types_decide_and_what_is_not_matched_is_said(warehouse_url: str) -> None:
    text = mapping_for(warehouse_url, TABLE, sample_of(*OBJECTS))

    thing = yaml.safe_load(text)["attributes"]["collections"]["thing"]
    assert text.startswith("# Proposed from the first 12 records of demo:thing: all of them fit.\n")
    assert thing == {
        "table": {
            "name": "public.Orders",
            "managed": False,
            "round": True,
            "columns": {
                "id": "id",
                "upstream_id": "upstreamId",
                "internal_id": "externalId",
                "updated_idx": "updatedIdx",
                "deleted": "isDeleted",
                "customer": "demoCustomerId",
                "currency": "currency",
                "created": "createdAt",
                "plan": "plan",
                "plan_tier": "planTier",
                "updated_at": "updatedAt",
            },
        },
        "columns": {
            "customer": {"path": "customer", "type": "text"},
            "currency": {"path": "currency", "type": "text"},
            "created": {"path": "created", "type": "timestamptz", "format": "epoch_seconds"},
            "plan": {"path": "plan", "type": "jsonb"},
            "plan_tier": {"path": "plan.tier", "type": "text"},
        },
    }
    assert remarks_of(text) == [
        "# demoCustomerId takes customer, of a similar name: is it the same?",
        "# createdAt takes created, of a similar name: is it the same?",
        "# note (character varying(4)) is not matched; no value of note goes into its type",
        "# shout is filled by Postgres itself",
        "# mine (integer) is not matched",
        "# times are rounded to the digits that the table keeps; without `round` one with more is a reject",
    ]


def test_the_mapping_is_one_that_a_run_writes_through(warehouse_url: str) -> None:
    text = mapping_for(warehouse_url, TABLE, sample_of(*OBJECTS))

    outcome = deliver(warehouse_url, declared(text), [record(f"r{n}", n + 1, data=data) for n, data in enumerate(OBJECTS)])

    assert (outcome.counts.inserted, outcome.counts.rejected) == (12, 0)
    assert query(
        warehouse_url,
        'select "demoCustomerId", currency, "createdAt"::text, plan, "planTier", mine from "Orders" where id = \'r3\'',
    ) == [("c3", "usd", "2023-11-14 22:13:23", {"id": 3, "tier": "x"}, "x", 1)]


def test_a_table_without_versions_tombstones_and_ids_gets_what_stands_in_for_them(warehouse_url: str) -> None:
    table = 'create table "Orders" ("syncId" text, "upstreamId" text, note text, primary key ("syncId", "upstreamId"))'

    text = mapping_for(warehouse_url, table, sample_of(*OBJECTS))

    thing = yaml.safe_load(text)["attributes"]["collections"]["thing"]
    assert (thing["table"]["key"], thing["on_delete"]) == (["sync_id", "upstream_id"], "remove")
    assert remarks_of(text) == [
        "# no column takes updated_idx: the ledger keeps the versions",
        "# no column takes deleted: a deletion removes the row",
    ]
    assert deliver(warehouse_url, declared(text), [record("r1", 1, data=OBJECTS[0])]).counts.inserted == 1


def test_what_a_run_would_refuse_is_said_at_the_head(warehouse_url: str) -> None:
    table = 'create table "Orders" (id text primary key, deleted boolean, note text, "mustHave" text not null)'

    text = mapping_for(warehouse_url, table, sample_of(*OBJECTS))

    refusal, unmatched, _ = remarks_of(text)
    assert refusal.startswith("# A run would refuse it as it is: table 'public.Orders' of 'demo/thing' requires a value in")
    assert unmatched == "# mustHave (text) is not matched, and the table requires it"


def test_a_table_in_which_no_row_could_be_found_again_is_refused(warehouse_url: str) -> None:
    with pytest.raises(ConfigurationError, match="has no column for the id of a record of 'demo/thing', nor for its sync_id"):
        mapping_for(warehouse_url, 'create table "Orders" (number int primary key, note text)', sample_of(*OBJECTS))


@pytest.mark.parametrize(
    ("column", "field", "values", "misfits", "shown", "takes"),
    [
        pytest.param("integer", "amount", [1, 2**31, 2**40], 2, "2147483648", WHOLE.format(-(2**31), 2**31 - 1), id="integer"),
        pytest.param("smallint", "amount", [1, 40_000, 2], 1, "40000", WHOLE.format(-32_768, 32_767), id="smallint"),
        pytest.param("mood", "state", ["good", "sad", "mad"], 2, '"sad"', "values of its type mood", id="enum label"),
        pytest.param("mood[]", "of", [["good", None], ["sad"], []], 1, '["sad"]', "values of its type mood[]", id="labels"),
        pytest.param(
            "numeric(5,2)", "price", [1.25, 123456.5], 1, "123456.5", "values of its type numeric(5,2)", id="whole digits"
        ),
        pytest.param("numeric(5,2)", "price", [1.25, 1.125], 1, "1.125", "at most 2 digits behind the point", id="fraction"),
        pytest.param("numeric(3)", "amount", [7, 1000], 1, "1000", "values of its type numeric(3,0)", id="integers in a numeric"),
        pytest.param("varchar(4)", "note", ["four", "fives"], 1, '"fives"', "at most 4 characters", id="characters"),
        pytest.param("few", "note", ["four", "evil"], 1, '"evil"', "values of its type few", id="domain"),
        pytest.param("varchar(20)", "token", ["short", "s" * 21], 1, "…", "at most 20 characters", id="secret"),
        pytest.param(
            "varchar(20)", "note", ["short", "long" * 99], 1, f'"{"long" * 9}lon…', "at most 20 characters", id="long value"
        ),
    ],
)
def test_values_that_a_run_would_reject_are_counted_and_one_is_shown(
    warehouse_url: str, column: str, field: str, values: list[object], misfits: int, shown: str, takes: str
) -> None:
    execute(warehouse_url, "create type mood as enum ('good', 'bad')", "create domain few as varchar(4) check (value <> 'evil')")
    table = f'create table "Orders" (id text primary key, updated_idx bigint, deleted boolean, {field} {column})'
    objects = [{field: value} for value in values]

    text = mapping_for(warehouse_url, table, sample_of(*objects))
    outcome = deliver(warehouse_url, declared(text), [record(f"r{n}", n + 1, data=data) for n, data in enumerate(objects)])

    assert (
        text.splitlines()[0]
        == f"# Proposed from the first {len(values)} records of demo:thing: {misfits} of them would be rejected."
    )
    assert remarks_of(text) == [
        f"# {misfits} of {len(values)} values of {field} would be rejected, as for {shown}: column {field!r} of the table takes {takes}"
    ]
    assert outcome.counts.rejected == misfits


def test_values_that_the_table_requires_and_records_lack_are_counted(warehouse_url: str) -> None:
    table = 'create table "Orders" (id text primary key, updated_idx bigint, deleted boolean, note text not null)'
    objects: list[dict[str, object]] = [{"note": "a"}, {"note": None}, {}, {"note": "b"}]

    text = mapping_for(warehouse_url, table, sample_of(*objects))
    outcome = deliver(warehouse_url, declared(text), [record(f"r{n}", n + 1, data=data) for n, data in enumerate(objects)])

    assert text.splitlines()[0] == "# Proposed from the first 4 records of demo:thing: 2 of them would be rejected."
    assert remarks_of(text) == [
        "# 2 of 4 values of note would be rejected: column 'note' of the table takes a value in every row"
    ]
    assert outcome.counts.rejected == 2


@pytest.mark.parametrize(
    ("columns", "objects", "mapped", "said"),
    [
        pytest.param(
            "version bigint",
            [{"x": 1}],
            "version",
            ["# version takes updated_idx of the record: is it the version of a row?"],
            id="offered",
        ),
        pytest.param(
            'version bigint, "updatedIdx" bigint',
            [{"x": 1}],
            "updatedIdx",
            ["# version (bigint) is not matched"],
            id="the right one",
        ),
        pytest.param(
            "version bigint",
            [{"version": 7}],
            None,
            ["# no column takes updated_idx: the ledger keeps the versions"],
            id="a field of the object",
        ),
        pytest.param(
            "version integer",
            [{"x": 1}],
            None,
            ["# version (integer) is not matched", "# no column takes updated_idx: the ledger keeps the versions"],
            id="too small",
        ),
    ],
)
def test_a_column_version_is_offered_for_updated_idx(
    warehouse_url: str, columns: str, objects: list[object], mapped: str | None, said: list[str]
) -> None:
    table = f'create table "Orders" (id text primary key, {columns}, deleted boolean)'

    text = mapping_for(warehouse_url, table, sample_of(*objects))

    assert yaml.safe_load(text)["attributes"]["collections"]["thing"]["table"]["columns"].get("updated_idx") == mapped
    assert remarks_of(text) == said
