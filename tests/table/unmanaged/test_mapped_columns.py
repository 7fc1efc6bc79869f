"""A table that an ORM created: written through its own names and types, and left as it is in everything else."""

from datetime import UTC, datetime

import psycopg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.errors import TooManyRejects
from sequin_pipeline.ledger.counts import Counts
from tests.support.builders import COLUMNS, record
from tests.support.reading import execute, query, rejects
from tests.table.unmanaged.tables import MAPPING, SUBSCRIPTION, deliver, unmanaged

ROWS = 'select "recordId", "updatedIdx", "isDeleted", "Status", "amountCents", plan from app."Subscription" order by 1'


def test_rows_land_in_camel_case_columns_of_a_table_in_pascal_case(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)

    outcome = deliver(app_url, unmanaged(MAPPING), [record("a", 1), record("b", 2)], [record("a", 3)])

    assert outcome.counts == Counts(fetched=3, inserted=2, duplicate=1, created=2)
    assert query(app_url, ROWS) == [("a", 3, False, "active", 3, "free"), ("b", 2, False, "active", 2, "free")]


def test_only_mapped_columns_are_written(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    deliver(app_url, unmanaged(MAPPING), [record("a", 1)])
    execute(app_url, """update app."Subscription" set plan = 'gold'""")

    deliver(app_url, unmanaged(MAPPING), [record("a", 2)])

    assert query(app_url, ROWS) == [("a", 2, False, "active", 2, "gold")]


def test_a_replay_writes_nothing(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    history = [[record("a", 1), record("b", 2)], [record("b", 3, deleted=True, data=None)]]
    deliver(app_url, unmanaged(MAPPING), *history)
    before = query(app_url, 'select ctid, xmin, xmax, * from app."Subscription"')

    outcome = deliver(app_url, unmanaged(MAPPING), *history)

    assert outcome.counts == Counts(fetched=3, unchanged=2, duplicate=1)
    assert query(app_url, 'select ctid, xmin, xmax, * from app."Subscription"') == before


@pytest.mark.parametrize("version_there", [1, 2], ids=["lower version", "same version"])
def test_a_row_that_the_application_overwrote_is_repaired_by_the_next_delivery_of_its_newest_version(
    app_url: str, version_there: int
) -> None:
    execute(app_url, SUBSCRIPTION)
    deliver(app_url, unmanaged(MAPPING), [record("a", 2)])
    execute(app_url, f"""update app."Subscription" set "Status" = 'mine', "updatedIdx" = {version_there}""")

    outcome = deliver(app_url, unmanaged(MAPPING), [record("a", 2)])

    assert outcome.counts.updated == 1
    assert query(app_url, ROWS) == [("a", 2, False, "active", 2, "free")]


def test_a_row_that_the_application_deleted_is_inserted_again(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    deliver(app_url, unmanaged(MAPPING), [record("a", 2)])
    execute(app_url, 'delete from app."Subscription"')

    deliver(app_url, unmanaged(MAPPING), [record("a", 2)])

    assert query(app_url, ROWS) == [("a", 2, False, "active", 2, "free")]


def test_rows_of_the_application_that_are_no_records_stay(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION, """insert into app."Subscription" values ('own', 'x', 7, false, 'own', null, 'gold')""")

    deliver(app_url, unmanaged(MAPPING), [record("a", 1)])

    assert query(app_url, ROWS) == [("a", 1, False, "active", 1, "free"), ("own", 7, False, "own", None, "gold")]


def test_a_bare_tombstone_marks_the_row_and_leaves_its_required_columns(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    deliver(app_url, unmanaged(MAPPING), [record("a", 1)])

    outcome = deliver(app_url, unmanaged(MAPPING), [record("a", 2, deleted=True, data=None)])

    assert outcome.counts == Counts(fetched=1, deleted=1)
    assert query(app_url, ROWS) == [("a", 2, True, "active", 1, "free")]


def test_a_bare_tombstone_of_a_row_that_never_came_is_a_reject_where_the_table_requires_its_object(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)

    deliver(app_url, unmanaged(MAPPING), [record("a", 1), record("b", 2, deleted=True, data=None)])

    assert query(app_url, ROWS) == [("a", 1, False, "active", 1, "free")]
    assert rejects(app_url) == {"b": ("postgres", "23502")}


def test_tombstones_remove_rows_of_a_table_without_a_column_for_them(app_url: str) -> None:
    execute(app_url, "create table app.plain (id text primary key, version bigint not null, status text, amount bigint)")
    of = unmanaged({"id": "id", "updated_idx": "version"}, table="app.plain", on_delete="remove")

    outcome = deliver(
        app_url,
        of,
        [record("a", 1), record("b", 2)],
        [record("a", 3, deleted=True, data=None)],
        [record("a", 2)],
        batch_records=1,
    )

    assert outcome.counts == Counts(fetched=4, inserted=2, deleted=1, stale=1, created=2, removed=1)
    assert query(app_url, "select * from app.plain") == [("b", 2, "active", 2)]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_timestamp_without_zone_holds_utc_whatever_the_zone_of_the_database(app_url: str, zone: str) -> None:
    execute(
        app_url,
        f"do $$ begin execute format('alter database %I set timezone = ''{zone}''', current_database()); end $$",
        'create table app.timed (id text primary key, idx bigint, deleted boolean, "endsAt" timestamp, "zonedAt" timestamptz,'
        ' "createdAt" timestamp not null, "updatedAt" timestamp not null)',
    )
    times = (
        Column("ends", parse_path("ends"), "timestamptz"),
        Column("zoned", parse_path("ends"), "timestamptz"),
    )
    mapping = {
        "id": "id",
        "updated_idx": "idx",
        "deleted": "deleted",
        "ends": "endsAt",
        "zoned": "zonedAt",
        "inserted_at": "createdAt",
        "updated_at": "updatedAt",
    }
    of = unmanaged(mapping, table="app.timed", columns=times)
    records = [record("a", 1, data={"ends": "2026-05-05T10:00:00.123456+02:00"})]
    started = datetime.now(UTC).replace(tzinfo=None)

    deliver(app_url, of, records)
    again = deliver(app_url, of, records)

    [(ends, zoned, created, updated)] = query(
        app_url, 'select "endsAt"::text, "zonedAt", "createdAt", "updatedAt" from app.timed'
    )
    assert ends == "2026-05-05 08:00:00.123456"
    assert zoned == datetime(2026, 5, 5, 8, 0, 0, 123456, tzinfo=UTC)
    assert created == updated
    assert isinstance(created, datetime)
    assert started <= created <= datetime.now(UTC).replace(tzinfo=None)
    assert again.counts == Counts(fetched=1, unchanged=1)


def test_stamps_move_as_the_pipelines_own_do(app_url: str) -> None:
    execute(
        app_url,
        "create table app.stamped (id text primary key, idx bigint, deleted boolean, made timestamptz, changed timestamptz)",
    )
    mapping = {"id": "id", "updated_idx": "idx", "deleted": "deleted", "inserted_at": "made", "updated_at": "changed"}
    of = unmanaged(mapping, table="app.stamped", columns=())

    deliver(app_url, of, [record("a", 1), record("b", 2)])
    deliver(app_url, of, [record("a", 3), record("b", 2)])

    moved = query(app_url, "select id, made < changed, made = changed from app.stamped order by id")
    assert moved == [("a", True, False), ("b", False, True)]


def test_a_value_that_does_not_fit_is_a_reject_for_its_row_alone(app_url: str) -> None:
    execute(
        app_url,
        "create table app.narrow (id text primary key, idx bigint, deleted boolean, status varchar(6) check (status <> 'bad'),"
        " amount smallint, price numeric(6, 2), ends timestamp(3))",
    )
    columns = (*COLUMNS, Column("price", parse_path("price"), "numeric"), Column("ends", parse_path("ends"), "timestamptz"))
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "deleted"}, table="app.narrow", columns=columns)
    good = {"status": "active", "amount": 1, "price": "12.50", "ends": "2026-01-01T00:00:00.123Z"}
    unfit: dict[str, dict[str, object]] = {
        "longer": {"status": "seven77"},
        "spaces": {"status": "active "},
        "check": {"status": "bad"},
        "range": {"amount": 40_000},
        "decimals": {"price": "12.345"},
        "digits": {"price": "12345.00"},
        "microseconds": {"ends": "2026-01-01T00:00:00.123456Z"},
    }

    with pytest.raises(TooManyRejects):
        deliver(app_url, of, [record(name, 1, data=good | change) for name, change in unfit.items()])
    deliver(app_url, of, [record("good", 1, data=good)])

    assert [row[0] for row in query(app_url, "select id from app.narrow")] == ["good"]
    assert rejects(app_url) == {
        "longer": ("value", None),
        "spaces": ("value", None),
        "check": ("postgres", "23514"),
        "range": ("value", None),
        "decimals": ("value", None),
        "digits": ("postgres", "22003"),
        "microseconds": ("value", None),
    }
    [(reason,)] = query(app_url, "select reason from sequin_pipeline.rejects where record_id = 'microseconds'")
    assert (
        reason == "column 'ends' of the table takes times with at most 3 digits of a second (or say `round: true` below `table`)"
    )


def test_times_are_rounded_to_the_tables_digits_where_the_declaration_asks_for_it(app_url: str) -> None:
    execute(app_url, "create table app.prisma (id text primary key, idx bigint, deleted boolean, ends timestamp(3))")
    columns = (Column("ends", parse_path("ends"), "timestamptz"),)
    mapping = {"id": "id", "updated_idx": "idx", "deleted": "deleted"}
    of = unmanaged(mapping, table="app.prisma", columns=columns, rounds=True)
    records = [record("a", 1, data={"ends": "2026-01-01T00:00:00.1235Z"}), record("b", 2, data={"ends": None})]

    deliver(app_url, of, records)
    again = deliver(app_url, of, records)

    assert query(app_url, "select id, ends::text from app.prisma order by id") == [("a", "2026-01-01 00:00:00.124"), ("b", None)]
    assert again.counts == Counts(fetched=2, unchanged=2)


def test_no_statement_of_ours_changes_a_definition(app_url: str) -> None:
    """DDL of whatever kind on anything but our own schema and temporary tables makes this database raise."""
    deliver(app_url, unmanaged({"id": "id", "deleted": "deleted"}, table="app.other", columns=()), *_made(app_url))
    execute(
        app_url,
        SUBSCRIPTION,
        """create function app.refuse() returns event_trigger language plpgsql as $$ declare command record; begin
        for command in select * from pg_event_trigger_ddl_commands() loop
            if command.schema_name is distinct from 'pg_temp' then
                raise 'DDL: %', command.object_identity;
            end if;
        end loop; end $$""",
        "create event trigger refuse on ddl_command_end execute function app.refuse()",
    )

    deliver(app_url, unmanaged(MAPPING), [record("a", 1)], [record("a", 2, deleted=True, data=None)], batch_records=1)

    assert query(app_url, ROWS) == [("a", 2, True, "active", 1, "free")]
    with psycopg.connect(app_url) as connection, pytest.raises(psycopg.errors.RaiseException):
        connection.execute("comment on table app.other is 'raises'")


def _made(url: str) -> list[list[dict[str, object]]]:
    """Another table first, so that the ledger is there already."""
    execute(url, "create table app.other (id text primary key, deleted boolean)")
    return [[]]
