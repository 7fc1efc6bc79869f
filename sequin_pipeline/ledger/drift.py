"""This module finds drift: fields of the provider's objects that appear, vanish or change their type.

It sees them on a sample of each run's records.

What earlier samples held stands in the ledger's table `fields`, one row a field. Only the top level of `data` is looked at.
"""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from psycopg import sql
from psycopg.types.json import Jsonb

from sequin_pipeline.ledger.forgets import read_forgotten
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.normalize.normalizer import NormalizedPages
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.records import json_text
from sequin_pipeline.records.forgotten import Forgotten
from sequin_pipeline.records.json_text import kind_of

SAMPLE_RECORDS = 200
ENOUGH_RECORDS = 2_000
"""After that many the counts say what is usual: samples without news are not written down any more."""

MAX_FIELDS = 1_000
"""The ledger remembers at most this many of a table.

Objects with more are keyed by ids or the like: another name is no news, and no row.
"""

MAX_NAME_CHARACTERS = 200
"""A field's name is at most this long: keys of objects may be texts of any length, keys of an index may not."""


ORIGIN = ("id", "sync_id", "internal_id")


@dataclass(frozen=True)
class Drift:
    """This value says how a run's sample differs from earlier ones.

    `gone` are fields that every record sampled before had and none of this run's; `changed` says from which types to which.
    """

    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: Mapping[str, str] = field(default_factory=dict)


class Sample:
    """A sample holds the fields of at most SAMPLE_RECORDS objects of one run."""

    def __init__(self) -> None:
        self._objects: list[tuple[tuple[object, ...], dict[str, str]]] = []
        self._present: Counter[str] = Counter()
        self._types: dict[str, set[str]] = {}

    @property
    def records(self) -> int:
        """This is how many objects the sample holds."""
        return len(self._objects)

    def add(self, page: NormalizedPages) -> None:
        """Looks into objects of the pages until the sample is full."""
        wanted = SAMPLE_RECORDS - self.records
        if wanted <= 0:
            return
        rows = page.frame.loc[page.frame["data"].notna(), [*ORIGIN, "data"]].head(wanted)
        for *origin, text in rows.itertuples(index=False):
            kinds: dict[str, str] = {
                key[:MAX_NAME_CHARACTERS]: kind_of(value) for key, value in json_text.members(text.encode()).items()
            }
            self._objects.append((tuple(origin), kinds))

    def compare(self, connection: Connection, ledger: Ledger) -> Drift:
        """Returns what differs from earlier samples, which this one joins. The first sample of a table is no drift.

        Names of fields of what is forgotten by now are left out; the caller's transaction has held requests off.
        """
        self._count(read_forgotten(connection, ledger.schema), ledger.label)
        if not self.records:
            return Drift()
        self._hold(connection)
        known = dict(
            fetch_rows(
                connection,
                lambda name, present, sampled, types: (name, (present, sampled, set(types))),
                sql.SQL("select field, present, sampled, types from {} where table_name = %s").format(ledger.table("fields")),
                (ledger.table_name,),
            )
        )
        self._pass_over_surplus(known.keys())
        drift = self._drift(known) if known else Drift()
        is_news = not known or drift != Drift()
        if is_news or max(sampled for _, sampled, _ in known.values()) < ENOUGH_RECORDS:
            self._remember(connection, ledger, known)
        return drift

    def _count(self, forgotten: Forgotten, label: str) -> None:
        self._objects = [(origin, kinds) for origin, kinds in self._objects if not forgotten.holds_row(label, *origin)]
        self._present = Counter(name for _, kinds in self._objects for name in kinds)
        self._types = {name: set() for name in self._present}
        for _, kinds in self._objects:
            for name, kind in kinds.items():
                if kind != "null":
                    self._types[name].add(kind)

    def _hold(self, connection: Connection) -> None:
        """Escapes names as this database can hold them."""
        held = {name: held_text(name, connection) for name in self._types}
        self._present = Counter({held[name]: self._present[name] for name in held})
        self._types = {held[name]: types for name, types in self._types.items()}

    def _pass_over_surplus(self, known: Set[str]) -> None:
        room = max(0, MAX_FIELDS - len(known))
        for name in sorted(self._types.keys() - known)[room:]:
            del self._types[name], self._present[name]

    def _drift(self, known: Mapping[str, tuple[int, int, set[str]]]) -> Drift:
        was_always_there = {name for name, (present, sampled, _) in known.items() if present == sampled}
        changed = {}
        for name, types in self._types.items():
            before = known[name][2] if name in known else set()
            if before and types - before:
                changed[name] = f"{' or '.join(sorted(before))}, now also {' or '.join(sorted(types - before))}"
        return Drift(
            new=tuple(sorted(self._types.keys() - known.keys())),
            gone=tuple(sorted(was_always_there - self._types.keys())),
            changed=changed,
        )

    def _tells_something(self, name: str, known: tuple[int, int, set[str]] | None) -> bool:
        """Says whether the sample changes what is known of the field: it is new, brings a type, or was always there and no longer is."""
        if known is None:
            return True
        present, sampled, types = known
        return bool(self._types.get(name, set()) - types) or (present == sampled and self._present[name] < self.records)

    def _remember(self, connection: Connection, ledger: Ledger, known: Mapping[str, tuple[int, int, set[str]]]) -> None:
        sampled_before = max((sampled for _, sampled, _ in known.values()), default=0)
        with connection.cursor() as cursor:
            cursor.executemany(
                sql.SQL(
                    "insert into {} as f (table_name, field, present, sampled, types) values (%s, %s, %s, %s, %s)"
                    " on conflict (table_name, field) do update set present = f.present + %s, sampled = excluded.sampled,"
                    " types = excluded.types, last_seen_at = case when %s > 0 then now() else f.last_seen_at end"
                ).format(ledger.table("fields")),
                [
                    (
                        ledger.table_name,
                        name,
                        self._present[name],
                        sampled_before + self.records,
                        Jsonb(sorted(self._types.get(name, set()) | (known[name][2] if name in known else set()))),
                        self._present[name],
                        self._present[name],
                    )
                    for name in sorted(self._types.keys() | known.keys())
                    if self._tells_something(name, known.get(name))
                ],
            )
