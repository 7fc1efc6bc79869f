"""This module writes declarative classes of SQLAlchemy 2.0, in Python."""

import json
import keyword
import re
from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.names import distinct, pascal_case
from sequin_pipeline.operate.models.relations import Relation, relations
from sequin_pipeline.operate.models.table import ModelColumn, ModelTable

_TYPES: Mapping[str, tuple[str, str]] = {
    "text": ("Text", "str"),
    "boolean": ("Boolean", "bool"),
    "integer": ("Integer", "int"),
    "bigint": ("BigInteger", "int"),
    "numeric": ("Numeric", "Decimal"),
    "double precision": ("Double", "float"),
    "date": ("Date", "date"),
    "timestamptz": ("DateTime(timezone=True)", "datetime"),
    "uuid": ("Uuid", "UUID"),
    "text[]": ("ARRAY(Text)", "list[str | None]"),
    "jsonb": ("JSONB", "Any"),
    "json": ("JSON", "Any"),
}
"""By type, this gives SQLAlchemy's, and that of the value."""

_IMPORTS: Mapping[str, frozenset[str]] = {
    "datetime": frozenset({"date", "datetime"}),
    "decimal": frozenset({"Decimal"}),
    "typing": frozenset({"Any"}),
    "uuid": frozenset({"UUID"}),
    "sqlalchemy": frozenset(
        {"ARRAY", "BigInteger", "Boolean", "Date", "DateTime", "Double", "Integer", "Numeric", "Text", "Uuid"}
    )
    | {"ForeignKeyConstraint", "Index"},
    "sqlalchemy.dialects.postgresql": frozenset({"JSON", "JSONB"}),
    "sqlalchemy.orm": frozenset({"DeclarativeBase", "Mapped", "mapped_column", "relationship"}),
}

_NAMES = re.compile(r"[A-Za-z_]+")

_TAKEN = frozenset({"metadata", "registry"}).union(*_IMPORTS.values(), *(_NAMES.findall(value) for _, value in _TYPES.values()))
"""The declarative base has these names for itself, and definitions further down in the class would no longer find the others."""


def sqlalchemy_models(tables: Sequence[ModelTable]) -> str:
    """Returns a module with a class for each table on a base of its own: replace that by your own."""
    names = distinct([("", "Base"), *((str(t.name), pascal_case(f"{t.name.schema}_{t.name.name}")) for t in tables)])
    classes = ["class Base(DeclarativeBase):\n    pass\n"]
    of = relations(tables, _attributes, _attribute)
    classes += ["\n".join(_lines(table, names, of[str(table.name)])) + "\n" for table in tables]
    return "\n\n".join([_imports(tables, of), *classes])


def _imports(tables: Sequence[ModelTable], of: Mapping[str, Sequence[Relation]]) -> str:
    types = {
        name for table in tables for column in table.columns for text in _TYPES[column.type] for name in _NAMES.findall(text)
    }
    if any(table.indexes for table in tables):
        types.add("Index")
    if any(relation.constraint for found in of.values() for relation in found):
        types.add("ForeignKeyConstraint")
    used = types | (_IMPORTS["sqlalchemy.orm"] - (set() if any(of.values()) else {"relationship"}))
    lines = [f"from {module} import {', '.join(sorted(names & used))}" for module, names in _IMPORTS.items() if names & used]
    return "\n".join(lines) + "\n"


def _lines(table: ModelTable, names: Mapping[str, str], found: Sequence[Relation]) -> list[str]:
    attributes, name = _attributes(table), names[str(table.name)]
    arguments = [f"Index({', '.join(map(_literal, (index.name, *index.columns)))})" for index in table.indexes]
    arguments += [_foreign_key(each, names) for each in found if each.constraint and not each.is_many]
    comment = f', "comment": {_literal(table.description)}' if table.description else ""
    options = f'{{"schema": {_literal(table.name.schema)}{comment}}}'
    return [
        f"class {name}(Base):",
        *([f"    # {table.remark}"] if table.remark else []),
        f"    __tablename__ = {_literal(table.name.name)}",
        f"    __table_args__ = ({', '.join([*arguments, options])},)",
        "",
        *(f"    {attributes[column.name]}: {_definition(column)}" for column in table.columns),
        *([""] if found else []),
        *(f"    {_relationship(name, table, each, names)}" for each in found),
    ]


def _foreign_key(relation: Relation, names: Mapping[str, str]) -> str:
    own = ", ".join(map(_literal, relation.columns))
    theirs = ", ".join(f"{names[str(relation.to.name)]}.__table__.c[{_literal(name)}]" for name in relation.to_columns)
    name = _literal(relation.constraint or "")
    return f'ForeignKeyConstraint([{own}], [{theirs}], name={name}, deferrable=True, initially="DEFERRED")'


def _relationship(name: str, table: ModelTable, relation: Relation, names: Mapping[str, str]) -> str:
    """Returns the way to other rows, which are only read: the pipeline writes them all."""
    outer = names[str(relation.to.name)]
    own, theirs = _attributes(table), _attributes(relation.to)
    pairs = [
        (f"{name}.{own[here]}", f"{outer}.{theirs[there]}")
        for here, there in zip(relation.columns, relation.to_columns, strict=True)
    ]
    joins = [f"{here} == foreign({there})" if relation.is_many else f"foreign({here}) == {there}" for here, there in pairs]
    joined = joins[0] if len(joins) == 1 else f"and_({', '.join(joins)})"
    kind = f'list["{outer}"]' if relation.is_many else f'"{outer}"'
    return f"{relation.name}: Mapped[{kind}] = relationship(primaryjoin={_literal(joined)}, viewonly=True)"


def _attributes(table: ModelTable) -> Mapping[str, str]:
    return distinct((column.name, _attribute(column.name)) for column in table.columns)


def _attribute(name: str) -> str:
    """Returns the column's own name, unless Python or SQLAlchemy mean something else by it."""
    bare = name.strip("_")
    if name.startswith("_"):
        return f"{bare}_" if bare.isidentifier() else f"n{bare}_"
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


def _definition(column: ModelColumn) -> str:
    kind, value = _TYPES[column.type]
    options = [_literal(column.name), kind]
    options += ["primary_key=True"] if column.is_key else [f"nullable={column.is_nullable}"]
    if column.description:
        options.append(f"comment={_literal(column.description)}")
    optional = " | None" if column.is_nullable else ""
    return f"Mapped[{value}{optional}] = mapped_column({', '.join(options)})"


def _literal(text: str) -> str:
    """Returns a string literal; JSON's are Python's, too."""
    return json.dumps(text, ensure_ascii=False)
