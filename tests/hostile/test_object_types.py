"""The provider's object in a column of type jsonb and of type json: what each of them takes, and as which text."""

from collections.abc import Iterator, Mapping

import pytest

from sequin_pipeline.catalog import Column, DataType, parse_path
from tests.hostile.sending import Landed, land, query, sync, tolerant, with_data
from tests.support.postgres import PostgresServer
from tests.support.reading import execute

DEEP = "[" * 5_000 + "]" * 5_000
DEEPER = "[" * 30_000 + "]" * 30_000
BEYOND = "1e131072"
"""The first power of ten that neither numeric nor jsonb can hold (Postgres documentation, 8.1)."""

KEYS = [f'"k{number}": {number}' for number in range(100)]
COLUMNS = (Column("k", parse_path("k"), "text"),)

OBJECTS: Mapping[str, tuple[str, str]] = {
    "order of keys": ('{"zz": 1, "a": 2, "k": "v"}', '{"a": 2, "k": "v", "zz": 1}'),
    "spaces": ('{ "k" :\t"v",\n "a":[ 1,2 ] }', '{"a": [1, 2], "k": "v"}'),
    "a key that comes twice": ('{"k": "first", "a": 1, "k": "last"}', '{"a": 1, "k": "last"}'),
    "a key that comes twice, once in escapes": (r'{"k": "first", "\u006b": "last"}', '{"k": "last"}'),
    "digits": (
        '{"k": 1e3, "l": 1.10, "m": -0.0, "n": 1E-2, "o": 12345678901234567890123}',
        '{"k": 1000, "l": 1.10, "m": 0.0, "n": 0.01, "o": 12345678901234567890123}',
    ),
    "escapes": (r'{"k": "\u00e9\/\t", "a": "\ud83d\ude00"}', '{"a": "😀", "k": "é/\\t"}'),
    "empty": ("{}", "{}"),
    "empty with a space": ("{ }", "{}"),
    "a hundred keys": (f"{{{', '.join(reversed(KEYS))}}}", f"{{{', '.join(KEYS)}}}"),
    "deep": (f'{{"k": "v", "deep": {DEEP}}}', f'{{"k": "v", "deep": {DEEP}}}'),
}
"""By name, the object as it is sent, which is the json column's text too, and as jsonb writes it."""

REFUSED: Mapping[str, tuple[str, str, str | None]] = {
    "nul": (r'{"k": "v", "a": "\u0000"}', "value", None),
    "nul in a key": (r'{"k": "v", "\u0000": 1}', "value", None),
    "half a pair": (r'{"k": "v", "a": "\ud800"}', "value", None),
    "deeper": (f'{{"k": "v", "deep": {DEEPER}}}', "postgres", "54001"),
}
"""Objects that end as one reject, whatever the type: its class and Postgres' SQLSTATE."""

TOO_LARGE = f'{{"k": "v", "n": {BEYOND}}}'


def sent(name: str) -> bytes:
    text = TOO_LARGE if name == "beyond" else OBJECTS[name][0] if name in OBJECTS else REFUSED[name][0]
    return with_data(name, text.encode())


@pytest.fixture(scope="module", params=["jsonb", "json"])
def landed(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[tuple[DataType, Landed]]:
    """All of them in one page, sent twice: the second time may touch no row."""
    database = postgres_server.make_database()
    of = tolerant(COLUMNS, data_type=request.param)
    yield request.param, land(postgres_server.url(database), of, *map(sent, (*OBJECTS, *REFUSED, "beyond")))
    postgres_server.release(database)


def test_json_keeps_every_byte_of_the_object_and_jsonb_its_value(landed: tuple[DataType, Landed]) -> None:
    kind, found = landed

    stored = {name: row["data"] for name, row in found.rows.items() if name != "beyond"}

    expected = {name: as_sent if kind == "json" else as_jsonb for name, (as_sent, as_jsonb) in OBJECTS.items()}
    assert stored == expected


def test_what_neither_type_can_be_read_with_is_one_reject(landed: tuple[DataType, Landed]) -> None:
    _, found = landed

    refused = {name: found.refusals[sent(name)] for name in REFUSED}

    assert {name: (one.reject_class, one.sqlstate) for name, one in refused.items()} == {
        name: (reject_class, sqlstate) for name, (_, reject_class, sqlstate) in REFUSED.items()
    }
    assert not set(REFUSED) & set(found.rows)


def test_a_number_beyond_numeric_stands_in_json_as_it_came_and_is_a_reject_for_jsonb(landed: tuple[DataType, Landed]) -> None:
    kind, found = landed

    if kind == "json":
        assert found.rows["beyond"]["data"] == TOO_LARGE
        assert sent("beyond") not in found.refusals
    else:
        assert found.refusals[sent("beyond")].sqlstate == "22003"
        assert "beyond" not in found.rows


def test_declared_columns_are_the_same_whatever_the_type_of_data(landed: tuple[DataType, Landed]) -> None:
    _, found = landed

    values = {name: found.rows[name]["k"] for name in ("order of keys", "a key that comes twice", "digits", "escapes", "empty")}

    assert values == {"order of keys": "v", "a key that comes twice": "last", "digits": "1e3", "escapes": "é/\t", "empty": None}


def test_a_column_that_is_filled_from_json_gets_the_digits_that_the_source_wrote(warehouse_url: str) -> None:
    sync(
        warehouse_url,
        tolerant(data_type="json"),
        with_data("r1", b'{"code": 1e3, "code": 1.50}'),
        with_data("r2", b'{"code": 1e3}'),
    )
    columns = (Column("code", parse_path("code"), "text"), Column("zero", parse_path("zero"), "double precision"))

    sync(warehouse_url, tolerant(columns, data_type="json"), refresh="with a column more")

    assert query(warehouse_url, "select code, data::text from demo.thing order by id") == [
        ("1.50", '{"code": 1e3, "code": 1.50}'),
        ("1e3", '{"code": 1e3}'),
    ]


def test_an_object_whose_text_alone_has_changed_is_an_update_in_json_and_none_in_jsonb(warehouse_url: str) -> None:
    of = {kind: tolerant(data_type=kind) for kind in ("json", "jsonb")}
    first, second = with_data("r1", b'{"a": 1, "b": 2}'), with_data("r1", b'{"b":2,"a":1}')
    counts = {}
    for kind in ("json", "jsonb"):
        execute(warehouse_url, "drop schema if exists demo, sequin_pipeline cascade")
        sync(warehouse_url, of[kind], first)
        once = sync(warehouse_url, of[kind], second, refresh="rewritten").counts
        twice = sync(warehouse_url, of[kind], second, refresh="known").counts
        counts[kind] = (once.updated, once.unchanged, twice.updated, twice.unchanged)

    assert counts == {"json": (1, 0, 0, 1), "jsonb": (0, 1, 0, 1)}
