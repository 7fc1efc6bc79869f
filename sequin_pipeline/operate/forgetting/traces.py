"""This module removes what the ledger says of single records: whatever holds their ids, here and at the provider.

A table of the ledger that comes to hold ids is one more entry in TRACES.
"""

from collections import Counter
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Connection


@dataclass(frozen=True)
class Traces:
    """This value is what single records are found by: their ids, what the ledger calls their rows, and their ids at the provider.

    `sync_ids` are those of the syncs, where they are forgotten whole. `say_whose`: they come of entries that say themselves whose they are,
    so that others which do are left to their own places: a record may have come to another tenant since.
    """

    ids: frozenset[str] = frozenset()
    row_ids: frozenset[str] = frozenset()
    upstream_ids: frozenset[str] = frozenset()
    sync_ids: frozenset[str] = frozenset()
    say_whose: bool = False


@dataclass(frozen=True)
class _Trace:
    """A trace is a statement over one table of the ledger, and what reports call its entries ('' where they are not counted).

    The name in braces is the table's. `says_whose`: its entries say themselves whose they are.
    """

    place: str
    table: str
    statement: LiteralString
    says_whose: bool = False


TRACES: tuple[_Trace, ...] = (
    _Trace(
        "rejects", "rejects", "delete from {} where table_name = any(%(tables)s) and record_id = any(%(ids)s)", says_whose=True
    ),
    _Trace(
        "remembered versions",
        "versions",
        "delete from {} where table_name = %(table)s and id = any(%(row_ids)s)",
        says_whose=True,
    ),
    # Leans on history (table_name, record_id, at).
    _Trace(
        "history entries", "history", "delete from {} where table_name = %(table)s and record_id = any(%(ids)s)", says_whose=True
    ),
    _Trace("borrowed values", "borrowed", "delete from {} where table_name = %(table)s and id = any(%(ids)s)", says_whose=True),
    _Trace(
        "ids of listings",
        "listed",
        "update {} l set ids = array(select i from unnest(l.ids) i where i not in (select unnest(%(ids)s::text[])))"
        " where l.table_name = %(table)s and exists (select from unnest(l.ids) i where i in (select unnest(%(ids)s::text[])))",
    ),
    _Trace(
        "examples of held deletes",
        "held_deletes",
        "update {} h set examples = array(select e from unnest(h.examples) e where e <> all(%(upstream_ids)s::text[]))"
        " where h.table_name = %(table)s and h.examples && %(upstream_ids)s::text[]",
    ),
    _Trace("ids of listings", "listed", "delete from {} where table_name = %(table)s and sync_id = any(%(sync_ids)s)"),
    _Trace("held deletes", "held_deletes", "delete from {} where table_name = %(table)s and sync_id = any(%(sync_ids)s)"),
    # Only its source can read a cursor, but an id in it is a word.
    _Trace(
        "cursor positions",
        "positions",
        "delete from {} where table_name = %(table)s and exists (select from regexp_split_to_table(cursor, '[^[:alnum:]_.:@-]+') word"
        " where word in (select unnest(%(ids)s::text[]) union select unnest(%(upstream_ids)s::text[])))",
    ),
    _Trace(
        "cursors of merges",
        "merges",
        "update {} set cursor_before = null, cursor_after = null where table_name = %(table)s and exists"
        " (select from regexp_split_to_table(concat_ws(' ', cursor_before, cursor_after), '[^[:alnum:]_.:@-]+') word"
        " where word in (select unnest(%(ids)s::text[]) union select unnest(%(upstream_ids)s::text[])))",
    ),
    # A refill under way then begins again, which costs time only.
    _Trace(
        "places of refills",
        "columns",
        "update {} set refilled_after = null where table_name = %(table)s and refilled_after = any(%(ids)s)",
    ),
    # As above, of rows that are written into a history table.
    _Trace(
        "places of history tables",
        "history_tables",
        "update {} set seeded_after = null where table_name = %(table)s and seeded_after = any(%(ids)s)",
    ),
)


def remove_traces(connection: Connection, ledger: Ledger, traces: Traces) -> Counter[str]:
    """Removes what the ledger says of these records, in the caller's transaction; returns how many entries, by place."""
    if not (traces.ids or traces.row_ids or traces.upstream_ids):
        return Counter()
    values = {
        "table": ledger.table_name,
        # Those of a collection that was not declared wait under its label.
        "tables": [ledger.table_name, ledger.label],
        "ids": sorted(traces.ids),
        "row_ids": sorted(traces.row_ids | traces.ids),
        "upstream_ids": sorted(traces.upstream_ids),
        "sync_ids": sorted(traces.sync_ids),
    }
    removed: Counter[str] = Counter()
    for trace in TRACES:
        if trace.says_whose and traces.say_whose:
            continue
        statement = sql.SQL(trace.statement).format(ledger.table(trace.table))
        removed[f"ledger: {trace.place}"] += connection.execute(statement, values).rowcount
    return +removed
