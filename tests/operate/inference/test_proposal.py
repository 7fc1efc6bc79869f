"""What is proposed takes every record of the sample, is valid as it is printed, and gives nothing away."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sequin_pipeline.catalog import Column, Path, SourceAccount, SourceDeclaration
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.operate.inference.examples import example_of
from sequin_pipeline.operate.inference.proposal import propose
from sequin_pipeline.operate.inference.sample import Sample, read_sample
from sequin_pipeline.operate.inference.tried import declared, tried
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.reads import Variable
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import FieldDescription
from tests.hostile.effort import EFFORT
from tests.operate.inference.sampled import COLLECTION, sample_of, sample_of_texts
from tests.support.builders import ListSource, live_run_config, page_of, record
from tests.support.reading import query


def printed(sample: Sample, *described: FieldDescription) -> str:
    return tried(propose(COLLECTION, sample, described), sample)


def columns_of(sample: Sample, *described: FieldDescription) -> dict[str, Column]:
    return {column.name: column for column in declared(printed(sample, *described)).columns}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(["true", "false", "null"], ("boolean", "iso", False), id="booleans"),
        pytest.param(["1", "-9223372036854775808"], ("bigint", "iso", False), id="whole-numbers"),
        pytest.param(["1", "9223372036854775808"], ("numeric", "iso", False), id="whole-numbers-beyond-64-bits"),
        pytest.param(["1.0", "2e3"], ("bigint", "iso", False), id="whole-numbers-written-otherwise"),
        pytest.param(["1", "0.1000000000000000055511151231257827"], ("numeric", "iso", False), id="fractions-with-every-digit"),
        pytest.param(["1700000000", "1700000001"], ("bigint", "iso", False), id="seconds-in-a-field-that-is-no-time"),
        pytest.param(['"2024-02-29"', "null"], ("date", "iso", False), id="days"),
        pytest.param(['"2024-02-29"', '"2023-02-29"'], ("text", "iso", False), id="a-day-that-does-not-exist"),
        pytest.param(['"2024-02-29"', '""'], ("date", "iso", True), id="days-and-empty-strings"),
        pytest.param(['"2024-02-29T00:00:00+02:00"', '"2024-02-29T00:00:00Z"'], ("timestamptz", "iso", False), id="instants"),
        pytest.param(['"2024-02-29 00:00:00"'], ("text", "iso", False), id="times-without-zone-are-not-guessed"),
        pytest.param(['"0b8e7b3c-7d8f-4f0e-9f6c-0d9a2f0f1c11"'], ("uuid", "iso", False), id="uuids"),
        pytest.param(['"01234"', '"5"'], ("text", "iso", False), id="numbers-in-strings-keep-their-zeros"),
        pytest.param(['""', '""'], ("text", "iso", False), id="empty-strings-only"),
        pytest.param(["1", '"one"', "true"], ("text", "iso", False), id="scalars-of-several-kinds"),
        pytest.param(['["a", null]', "[]"], ("text[]", "iso", False), id="strings"),
        pytest.param(["[]", "[]"], ("jsonb", "iso", False), id="empty-arrays-only"),
        pytest.param(['["a"]', "[1]"], ("jsonb", "iso", False), id="arrays-of-several-kinds"),
        pytest.param(['{"a": 1}', '"a"'], ("jsonb", "iso", False), id="an-object-or-its-id"),
    ],
)
def test_the_first_type_that_takes_every_value_is_proposed(values: list[str], expected: tuple[str, str, bool]) -> None:
    columns = columns_of(sample_of_texts([f'{{"x": {value}}}' for value in values]))

    assert [(column.type, column.time_format, column.empty_as_null) for column in columns.values()] == [expected]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("created", "1700000000", ("timestamptz", "epoch_seconds"), id="seconds"),
        pytest.param("updatedAt", "1700000000123", ("timestamptz", "epoch_milliseconds"), id="milliseconds"),
        pytest.param("ended_at", '1700000000, "y": 0', ("timestamptz", "epoch_seconds"), id="beside-another"),
        pytest.param("created", "42", ("bigint", "iso"), id="no-instant-of-our-times"),
        pytest.param("amount", "1700000000", ("bigint", "iso"), id="no-name-of-a-time"),
    ],
)
def test_a_number_is_an_instant_where_name_and_size_say_so(name: str, value: str, expected: tuple[str, str]) -> None:
    columns = columns_of(sample_of_texts([f'{{"{name}": {value}}}']))

    first = next(iter(columns.values()))
    assert (first.type, first.time_format) == expected


def test_objects_that_are_alike_are_taken_apart_and_maps_are_not() -> None:
    objects = [
        {"plan": {"id": f"p{n}", "seats": n}, "tags": {f"tag-{n}": "x"}, "rare": {"a": 1} if n < 9 else None, "record": {"x": 1}}
        for n in range(10)
    ]

    columns = columns_of(sample_of(*objects))

    assert {name: (str(column.path), column.type) for name, column in columns.items()} == {
        "plan_id": ("$.plan.id", "text"),
        "plan_seats": ("$.plan.seats", "bigint"),
        "tags": ("$.tags", "jsonb"),
        "rare": ("$.rare", "jsonb"),
        "record_x": ("$.record.x", "bigint"),
    }


def test_names_are_valid_distinct_and_none_of_the_record_s_own() -> None:
    sample = sample_of(
        {
            "id": "x",
            "currentPeriodEnd": "x",
            "current_period_end": "x",
            "2nd": "x",
            "Größe (cm)": "x",
            "record": "x",
            "a.b": "x",
            "ctid": "x",
        }
    )

    columns = columns_of(sample)

    assert {name: column.path for name, column in columns.items()} == {
        "demo_id": Path("data", ("id",)),
        "current_period_end": Path("data", ("currentPeriodEnd",)),
        "current_period_end_2": Path("data", ("current_period_end",)),
        "n_2nd": Path("data", ("2nd",)),
        "groe_cm": Path("data", ("Größe (cm)",)),
        "record": Path("data", ("record",)),
        "a_b": Path("data", ("a.b",)),
        "demo_ctid": Path("data", ("ctid",)),
    }


def test_what_the_source_describes_decides_where_the_sample_has_no_value() -> None:
    described = (FieldDescription("gone", "integer"), FieldDescription("seen", "integer"), FieldDescription("never", "mystery"))

    some = printed(sample_of({"gone": None, "seen": "text after all"}), *described)
    none = columns_of(sample_of(), *described)

    assert some.splitlines()[-3:] == [
        '        seen: {path: seen, type: text}  # never null, as in "text after all"',
        "        # gone: {path: gone, type: bigint}  # always null in the sample",
        "        # never: {path: never, type: jsonb}  # always null in the sample",
    ]
    assert {name: column.type for name, column in none.items()} == {"gone": "bigint", "seen": "bigint", "never": "jsonb"}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(['{"x": null}', '{"x": null}'], id="null"),
        pytest.param(['{"x": null, "y": 1}', '{"y": 2}'], id="null or absent"),
        pytest.param(['{"x": null, "X": null}'], id="two of them"),
    ],
)
def test_a_field_that_is_null_throughout_is_a_comment_since_nothing_tells_its_type(values: list[str]) -> None:
    text = printed(sample_of_texts(values))

    assert "x" not in columns_of(sample_of_texts(values))
    assert "        # x: {path: x, type: jsonb}  # always null in the sample\n" in text
    uncommented = declared(text.replace("        # ", "        ").replace("columns: {}", "columns:"))
    assert "x" in [column.name for column in uncommented.columns]


def test_the_comments_say_how_often_a_field_is_null_and_what_it_looks_like() -> None:
    objects = [{"status": "active", "left": "x" * 60 if n == 0 else None, "always": None} for n in range(200)]

    lines = printed(sample_of(*objects)).splitlines()

    assert lines == [
        "# Proposed from the first 200 records of demo:thing: all of them fit.",
        "type: sequin_pipeline.component.CollectionSync",
        "attributes:",
        "  provider: demo",
        "  collections:",
        "    thing:",
        "      columns:",
        '        status: {path: status, type: text}  # never null, as in "active"',
        f'        left: {{path: left, type: text}}  # null in 99.5 %, as in "{"x" * 39}…',
        "        # always: {path: always, type: jsonb}  # always null in the sample",
    ]


@pytest.mark.parametrize(
    ("accounts", "line"),
    [
        pytest.param((SourceAccount("default", "STRIPE_API_KEY"),), "  collections:", id="one"),
        pytest.param(
            (
                SourceAccount("eu", "KEY_EU", external_id="7", metadata={"region": "eu"}),
                SourceAccount("partner", "KEY_EU", connected_account="acct_1"),
            ),
            "  syncs: [{name: eu, key: KEY_EU, external_id: '7', metadata: {region: eu}}, "
            "{name: partner, key: KEY_EU, account: acct_1}]",
            id="several",
        ),
    ],
)
def test_a_collection_of_another_source_is_proposed_with_its_source_and_its_accounts(
    accounts: tuple[SourceAccount, ...], line: str
) -> None:
    of = replace(COLLECTION, provider="stripe", name="customer", source=SourceDeclaration("stripe", accounts))
    sample = sample_of({"email": "ann@example.com"})

    text = tried(propose(of, sample, ()), sample)

    assert text.splitlines()[1:6] == [
        "type: sequin_pipeline.component.CollectionSync",
        "attributes:",
        "  provider: stripe",
        "  source: stripe",
        line,
    ]
    assert declared(text).source == of.source


@pytest.mark.parametrize(
    ("options", "line"),
    [
        pytest.param(
            {"url": "https://tracker.test/api", "token": Variable("TRACKER_TOKEN")},
            "  options: {url: 'https://tracker.test/api', token: {env: TRACKER_TOKEN}}",
            id="an address and a secret",
        ),
        pytest.param(
            {"projects": ["a", "b"], "since": {"days": 30}},
            "  options: {projects: [a, b], since: {days: 30}}",
            id="lists and objects",
        ),
        pytest.param(
            {"logins": [{"key": Variable("KEY_EU")}, {"key": Variable("KEY_US")}]},
            "  options: {logins: [{key: {env: KEY_EU}}, {key: {env: KEY_US}}]}",
            id="secrets within a list",
        ),
    ],
)
def test_a_collection_of_a_source_of_another_package_is_proposed_with_its_options(options: dict[str, object], line: str) -> None:
    of = replace(COLLECTION, source=SourceDeclaration("sequin_pipeline.sources.base:SourceBase", options=options))

    sample = sample_of({"x": 1})

    text = tried(propose(of, sample, ()), sample)

    assert text.splitlines()[4:6] == ["  source: sequin_pipeline.sources.base:SourceBase", line]
    assert declared(text).source == of.source


def test_records_that_no_declaration_can_store_are_told_and_decide_nothing() -> None:
    sample = sample_of({"x": 1}, {"x": "NUL \x00"}, "no object")

    text = printed(sample)

    assert text.splitlines()[0] == "# Proposed from the first 1 records of demo:thing: all of them fit."
    assert text.splitlines()[1].startswith("# 2 more cannot be stored, whatever is declared; one of them: ")
    assert declared(text).columns[0].type == "bigint"


@pytest.mark.parametrize(
    ("steps", "value", "shown"),
    [
        pytest.param(("client_secret",), '"abc"', "…", id="a-key-that-says-so"),
        pytest.param(("auth", "accessToken"), '"abc"', "…", id="a-key-within"),
        pytest.param(("settings",), '{"password": "abc", "a": 1}', '{"password": "…", "a": 1}', id="a-key-of-the-value"),
        pytest.param(("note",), '"sk_live_abc"', '"…"', id="a-key-of-stripe"),
        pytest.param(("items",), '["eyJhbGciOi.x.y"]', '["…"]', id="a-signed-token-in-an-array"),
        pytest.param(("url",), '"https://u:p@pay.example/i/acct_1?s=ap"', '"https://pay.example/…"', id="a-link"),
        pytest.param(("email",), '"ada@example.org"', '"…@example.org"', id="an-address"),
        pytest.param(("name",), '"a\\nb\\u2028c"', '"a\\nb�c"', id="line-breaks"),
    ],
)
def test_an_example_opens_no_door_and_stays_on_its_line(steps: tuple[str, ...], value: str, shown: str) -> None:
    assert example_of(value.encode(), steps=steps) == shown


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["", "2024-02-30", "2024-02-29", "2024-02-29T10:00:00Z", "1", "0b8e7b3c-7d8f-4f0e-9f6c-0d9a2f0f1c11", "nan"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)
KEYS = st.sampled_from(
    ["id", "created", "Endet am", "a.b", "it's", 'say "x"', "back\\slash", "", "record", "é", "#", "\u2028", "x" * 80]
)


@pytest.mark.slow
@settings(max_examples=75 * EFFORT)
@example([{"\n": None}])
@example([{"\r": 1, "a\tb": None}])
@example([{"line\nbreak": [None]}])
@given(
    st.lists(
        st.dictionaries(KEYS | st.text(st.characters(codec="utf-8"), max_size=6), VALUES, max_size=5), min_size=1, max_size=14
    )
)
def test_whatever_the_records_hold_the_printed_yaml_is_valid_and_takes_them_all(objects: list[dict[str, object]]) -> None:
    sample = sample_of(*objects)

    text = printed(sample)

    of = declared(text)
    first_line = text.splitlines()[0]
    assert first_line.endswith(": all of them fit.")
    rejects = [reject for page in sample.pages for reject in Normalizer(of)(page).rejects]
    assert len(rejects) == len(sample.rejects)
    proposal = propose(COLLECTION, sample, ())
    proposed = {item.column.path.steps[0] for item in (*proposal.columns, *proposal.untold)}
    assert {key for stored in sample.objects for key in json.loads(stored)} == proposed
    assert {column.name for column in of.columns} == {item.column.name for item in proposal.columns}
    assert set(yaml.safe_load(text)) == {"type", "attributes"}


def test_what_was_proposed_lands_in_postgres_without_a_reject(warehouse_url: str) -> None:
    objects = [
        {
            "created": 1_700_000_000 + n,
            "rate": n / 7,
            "tags": ["a", None],
            "plan": {"id": n},
            "born": "1999-12-31" if n % 2 else "",
        }
        for n in range(20)
    ]
    records = [record(f"r{number}", number + 1, data=data) for number, data in enumerate(objects)]
    of = declared(printed(sample_of(*objects)))

    outcome = run_sync(RecordStream(live_run_config(of), ListSource([records])), Warehouse(warehouse_url), run_id="run")

    assert (outcome.counts.inserted, outcome.counts.rejected) == (20, 0)
    assert query(warehouse_url, "select created, rate::text, tags, plan_id, born::text from demo.thing where id = 'r1'") == [
        (datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC), "0.14285714285714285", ["a", None], 1, "1999-12-31")
    ]


def test_no_more_pages_are_read_than_the_sample_needs() -> None:
    given = [page_of([record("r1"), record("r2")], "1"), page_of([record("r3")], "2"), page_of([record("r4")], "3")]
    left = iter(given)

    sample = read_sample(left, COLLECTION, wanted_records=3)

    assert sample.records == 3
    assert list(left) == given[2:]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param(["[null]", '["a", null]', '["b"]'], "; 2 with nulls within, which Prisma does not read", id="some"),
        pytest.param(['["a"]', "null", "[]"], None, id="none"),
        pytest.param(['["null"]'], None, id="the word"),
    ],
)
def test_nulls_within_arrays_are_said(values: list[str], said: str | None) -> None:
    sample = sample_of_texts([f'{{"x": {value}}}' for value in values])

    text = tried(propose(COLLECTION, sample, ()), sample)

    [line] = [line for line in text.splitlines() if "path: x" in line]
    assert ("text[]" in line, "nulls within" in line) == (True, said is not None)
    assert said is None or said in line


def test_lists_of_objects_are_proposed_as_tables_in_comments_that_take_them_all() -> None:
    lines = [{"id": f"li_{number}", "amount": number, "price": {"id": "p"}, "position": 1} for number in range(4)]
    objects: list[dict[str, object]] = [
        {"lines": {"data": lines, "has_more": False}, "tags": ["a"], "steps": [{"at": 1}, {"at": 1}]} for _ in range(10)
    ]

    text = printed(sample_of(*objects))

    comment = text[text.index("      # Lists that could be tables") :]
    assert comment == (
        "      # Lists that could be tables of their own:\n"
        "      # children:\n"
        "      #   lines:\n"
        "      #     path: lines.data\n"
        "      #     key: [id]\n"
        "      #     columns:\n"
        "      #       amount: {path: amount, type: bigint}\n"
        "      #       price_id: {path: price.id, type: text}\n"
        "      #       demo_position: {path: position, type: bigint}\n"
        "      #   steps:\n"
        "      #     path: steps\n"
        "      #     columns:\n"
        "      #       at: {path: at, type: bigint}\n"
    )
    asked = declared(text.replace("      # Lists that could be tables of their own:\n", "").replace("      # ", "      "))
    assert [child.name for child in asked.children] == ["lines", "steps"]
    rows = Normalizer(asked)(sample_of(*objects).pages[0])
    assert (len(rows.frame), rows.rejects) == (10, ())
