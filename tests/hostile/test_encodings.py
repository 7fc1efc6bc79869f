"""Sessions and databases of other encodings than UTF-8: what is stored is what was sent, or a reject that says why."""

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.doctor.encoding import encoding as examine_encoding
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import read_frame
from tests.hostile.sending import land, land_once, query, read, sync, text, tolerant, with_data
from tests.support.builders import record
from tests.support.encodings import encoded_database
from tests.support.postgres import PostgresServer

COLUMNS = (
    Column("word", parse_path("word"), "text"),
    Column("words", parse_path("words"), "text[]"),
    Column("extra", parse_path("extra"), "jsonb"),
)
OF = tolerant(COLUMNS)
DATA = {"word": "Zoë", "words": ["né", None], "extra": {"clé": "à"}}
STORED = {"word": "Zoë", "words": "{né,NULL}", "extra": '{"clé": "à"}'}
SAYS = ("environment", "URL", "options of the URL", "role", "database")


def sent(record_id: str, **data: object) -> bytes:
    """In UTF-8, without escapes that would be ASCII."""
    return text(record(record_id, upstream_id=f"client {record_id}", data=DATA | data), is_escaped=False)


def columns(url: str) -> dict[str, dict[str, str | None]]:
    return {name: {column: row[column] for column in STORED} for name, row in read(url, OF).items()}


def say(url: str, encoding: str, where: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of sessions whose encoding somebody else has said."""
    match where:
        case "environment":
            monkeypatch.setenv("PGCLIENTENCODING", encoding)
        case "URL":
            return f"{url}&client_encoding={encoding}"
        case "options of the URL":
            return f"{url}&options=-c%20client_encoding%3D{encoding}"
        case _:
            with psycopg.connect(url, autocommit=True) as connection:
                database = connection.info.dbname
                subject = sql.SQL("database {}").format(sql.Identifier(database))
                if where == "role":
                    subject = sql.SQL("role postgres in database {}").format(sql.Identifier(database))
                connection.execute(sql.SQL("alter {} set client_encoding to {}").format(subject, sql.Identifier(encoding)))
    return url


@pytest.mark.parametrize(
    ("where", "encoding"),
    [
        *((where, "LATIN1") for where in SAYS),
        *((where, "WIN1252") for where in SAYS),
        ("environment", "LATIN9"),
        ("role", "SJIS"),
    ],
)
def test_the_encoding_that_somebody_says_for_sessions_changes_no_character(
    warehouse_url: str, where: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = say(warehouse_url, encoding, where, monkeypatch)

    landed = land(url, OF, sent("é1"), sent("a2", word="€ 文"))

    assert landed.refusals == {}
    assert columns(warehouse_url) == {"é1": STORED, "a2": STORED | {"word": "€ 文"}}
    frame = read_frame(Warehouse(url), OF.table, columns=["id", "word"])
    assert dict(zip(frame["id"], frame["word"], strict=True)) == {"é1": "Zoë", "a2": "€ 文"}


@pytest.mark.parametrize(
    ("encoding", "word"),
    [
        pytest.param("LATIN1", "€", id="LATIN1"),
        pytest.param("LATIN9", "文", id="LATIN9"),
        pytest.param("WIN1252", "文", id="WIN1252"),
        pytest.param("KOI8R", "ë", id="KOI8R"),
    ],
)
def test_what_a_database_of_another_encoding_cannot_hold_is_a_reject_of_that_record(
    postgres_server: PostgresServer, encoding: str, word: str
) -> None:
    held = {"word": "Ж"} if encoding == "KOI8R" else {}
    rest: dict[str, object] = {"words": [], "extra": {}} if encoding == "KOI8R" else {}
    good = [sent("g1", **held, **rest), sent("g2", **held, **rest)]
    bad = [
        sent("b1", **rest, word=word),
        sent("b2", **held, words=[word], extra={}),
        sent("b3", **held, words=[], extra={word: 1}),
        sent(f"b4 {word}", **held, **rest),
        sent("b5", **held, **rest, **{f"field {word}": 1}),
        # A reason that quotes what cannot be held.
        with_data(f"b6 {word}", text({"word": {word: 1}, "words": word}, is_escaped=False)),
    ]
    with encoded_database(postgres_server, encoding) as url:
        landed = land(url, OF, *good, *bad)

        usual = STORED | {"word": "Ж", "words": "{}", "extra": "{}"} if encoding == "KOI8R" else STORED
        assert columns(url) == {"g1": usual, "g2": usual}
        assert list(landed.refusals) == sorted(bad, key=list(landed.refusals).index)
        assert {refusal.sqlstate for refusal in landed.refusals.values()} == {"22P05", None}
        ids = {str(record_id) for (record_id,) in query(url, "select record_id from sequin_pipeline.rejects")}
    assert ids == {
        "b1",
        "b2",
        "b3",
        "b5",
        *(f"{name} {word.encode('ascii', 'backslashreplace').decode()}" for name in ("b4", "b6")),
    }


def test_a_database_of_encoding_sql_ascii_is_refused_in_words(postgres_server: PostgresServer) -> None:
    with encoded_database(postgres_server, "SQL_ASCII") as url:
        with pytest.raises(ConfigurationError) as refused:
            sync(url, OF, sent("a1"))

        assert query(url, "select count(*) from pg_namespace where nspname in ('demo', 'sequin_pipeline')") == [(0,)]
    assert str(refused.value).endswith(
        "has the encoding SQL_ASCII, under which Postgres neither checks nor converts text: expected UTF8, found SQL_ASCII. Create a"
        " database by `create database … template template0 encoding 'UTF8'` and let WAREHOUSE_URL name it"
    )


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("word = {wrong}(word)", id="a column"),
        pytest.param("words = {wrong}(words::text)::text[]", id="an array"),
        pytest.param("extra = {wrong}(extra::text)::jsonb", id="JSON"),
        pytest.param("data = {wrong}(data::text)::jsonb", id="the object"),
        pytest.param("upstream_id = {wrong}('é' || upstream_id)", id="the envelope"),
    ],
)
@pytest.mark.parametrize("encoding", ["LATIN1", "LATIN9", "WIN1252"])
def test_a_full_refresh_repairs_rows_that_were_stored_in_the_wrong_encoding(
    warehouse_url: str, encoding: str, damage: str
) -> None:
    """Their hashes are of the right bytes."""
    records = [sent("a1"), sent("a2", word="plain", words=[], extra={}), sent("a3")]
    before = {name: row | {"xmin": None, "updated_at": None} for name, row in land_once(warehouse_url, OF, *records).rows.items()}
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute(
            f"create function pg_temp.wrong(text) returns text language sql as"  # type: ignore[arg-type]
            f" $$ select convert_from(convert_to($1, 'UTF8'), '{encoding}') $$"
        )
        connection.execute(f"update demo.thing set {damage.format(wrong='pg_temp.wrong')} where id <> 'a2'")  # type: ignore[arg-type]

    repaired = sync(warehouse_url, OF, *records, refresh="repair")
    again = sync(warehouse_url, OF, *records, refresh="again")

    assert {name: row | {"xmin": None, "updated_at": None} for name, row in read(warehouse_url, OF).items()} == before
    assert (repaired.counts.updated, repaired.counts.unchanged) == (2, 1)
    assert (again.counts.updated, again.counts.unchanged) == (0, 3)


@pytest.mark.parametrize("encoding", ["LATIN1", "LATIN9", "WIN1252"])
@pytest.mark.parametrize(
    ("column", "sound"), [("word", "été — où"), ("id", "café"), ("data", '{"a": "naïve"}'), ("words", "{né}")]
)
def test_doctor_finds_rows_that_were_stored_in_the_wrong_encoding(
    warehouse_url: str, encoding: str, column: str, sound: str
) -> None:
    land_once(warehouse_url, OF, sent("a1"), sent("a2"), sent("a3", word="Ã la ©, André…»"))
    with Warehouse(warehouse_url).connect() as connection:
        before = list(examine_encoding(connection, patient(warehouse_url)))
        kind = {"data": "jsonb", "words": "text[]"}.get(column, "text")
        wrong = sound.encode().decode({"LATIN1": "latin-1", "LATIN9": "iso8859-15", "WIN1252": "cp1252"}[encoding])
        connection.execute(
            sql.SQL("update demo.thing set {} = %s::{} where id = 'a1'").format(sql.Identifier(column), sql.SQL(kind)), (wrong,)
        )
        after = list(examine_encoding(connection, patient(warehouse_url)))

    name = wrong if column == "id" else "a1"
    assert [finding.level for finding in before] == ["ok"]
    assert after == [
        Finding(
            "encoding",
            "problem",
            f"demo.thing: text of column {column!r} was stored by a session of another encoding than UTF8, as in 1 of the rows looked at,"
            f" {column!r} of {name!r} among them",
            "`sequin-pipeline sync --collection demo/thing --full-refresh` writes them again; of keys see docs/operations.md",
        )
    ]


def test_doctor_tells_what_a_database_of_another_encoding_means(postgres_server: PostgresServer) -> None:
    with encoded_database(postgres_server, "LATIN1") as url, Warehouse(url).connect() as connection:
        found = list(examine_encoding(connection, patient(url)))

    assert found == [
        Finding(
            "encoding",
            "warning",
            "the database is encoded in LATIN1: a record with a character that it cannot hold becomes a reject",
            "create a database with encoding UTF8, unless that is what you want",
        )
    ]


def patient(url: str) -> Patient:
    settings = Settings(url, url, Path("/nowhere"), frozenset(), {}, None)
    return Patient(settings, {}, {"demo/thing": OF}, None)
