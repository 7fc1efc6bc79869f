"""This module says by which properties the models of tables lead from a row to the rows of its child tables, and back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sequin_pipeline.operate.models.names import distinct
from sequin_pipeline.operate.models.table import ModelTable

PARENT = "parent"


@dataclass(frozen=True)
class Relation:
    """This value is a property of a model: the row that a child's row belongs to, or, if `is_many`, the rows of a child table.

    The rows are those whose `to_columns` equal the `columns` of this one; `constraint` is the foreign key that says so, too.
    """

    name: str
    to: ModelTable
    is_many: bool
    columns: tuple[str, ...]
    to_columns: tuple[str, ...]
    constraint: str | None


def relations(
    tables: Sequence[ModelTable], properties: Callable[[ModelTable], Mapping[str, str]], spell: Callable[[str], str]
) -> Mapping[str, Sequence[Relation]]:
    """Returns for each table, by `schema.table`, its relations to others of these tables.

    `properties` are the names of a table's columns, which no relation takes; `spell` is how the tool writes names.
    """
    found: dict[str, Sequence[Relation]] = {}
    for table in tables:
        steps = [*_to_parent(table, tables), *_to_children(table, tables)]
        # No property has a dot, and no two relations lead to the same table.
        names = distinct(
            [*((name, name) for name in properties(table).values()), *((f".{one.to.name}", spell(one.name)) for one in steps)]
        )
        found[str(table.name)] = [replace(one, name=names[f".{one.to.name}"]) for one in steps]
    return found


def inverse(relation: Relation, table: ModelTable, of: Mapping[str, Sequence[Relation]]) -> Relation:
    """Returns the relation that leads back to the table."""
    return next(back for back in of[str(relation.to.name)] if back.to == table)


def _to_parent(table: ModelTable, tables: Sequence[ModelTable]) -> list[Relation]:
    parent = table.parent
    return [
        Relation(PARENT, other, False, parent.columns, parent.to_columns, parent.constraint)
        for other in tables
        if parent is not None and other.name == parent.name
    ]


def _to_children(table: ModelTable, tables: Sequence[ModelTable]) -> list[Relation]:
    return [
        Relation(other.parent.child, other, True, other.parent.to_columns, other.parent.columns, other.parent.constraint)
        for other in tables
        if other.parent is not None and other.parent.name == table.name
    ]
