"""This module writes declarative classes of SQLAlchemy 2.0, in Python."""

import json
import keyword
import re
from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.names import distinct, pascal_case
from sequin_pipeline.operate.models.table import ModelColumn, ModelParent, ModelTable

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
        {"ARRAY", "BigInteger", "Boolean", "Date", "DateTime", "Double", "Index", "Integer", "Numeric", "Text", "Uuid"}
    ),
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
    classes += ["\n".join(_lines(names[str(table.name)], table, names)) + "\n" for table in tables]
    return "\n\n".join([_imports(tables), *classes])


def _imports(tables: Sequence[ModelTable]) -> str:
    types = {
        name for table in tables for column in table.columns for text in _TYPES[column.type] for name in _NAMES.findall(text)
    }
    if any(table.indexes for table in tables):
        types.add("Index")
    used = types | (_IMPORTS["sqlalchemy.orm"] - (set() if any(_parent(table, tables) for table in tables) else {"relationship"}))
    lines = [f"from {module} import {', '.join(sorted(names & used))}" for module, names in _IMPORTS.items() if names & used]
    return "\n".join(lines) + "\n"


def _parent(table: ModelTable, tables: Sequence[ModelTable]) -> ModelParent | None:
    """Returns what the rows of a child table belong to, where that is printed, too."""
    is_printed = table.parent is not None and any(other.name == table.parent.name for other in tables)
    return table.parent if is_printed else None


def _lines(name: str, table: ModelTable, names: Mapping[str, str]) -> list[str]:
    attributes = distinct((column.name, _attribute(column.name)) for column in table.columns)
    indexes = "".join(f"Index({', '.join(map(_literal, (index.name, *index.columns)))}), " for index in table.indexes)
    comment = f', "comment": {_literal(table.description)}' if table.description else ""
    return [
        f"class {name}(Base):",
        *([f"    # {table.remark}"] if table.remark else []),
        f"    __tablename__ = {_literal(table.name.name)}",
        f'    __table_args__ = ({indexes}{{"schema": {_literal(table.name.schema)}{comment}}},)',
        "",
        *(f"    {attributes[column.name]}: {_definition(column)}" for column in table.columns),
        *_relationship(name, table, attributes, names),
    ]


def _relationship(name: str, table: ModelTable, attributes: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    """Returns the way to the parent, which is only read: the pipeline writes both."""
    if table.parent is None or str(table.parent.name) not in names:
        return []
    outer = names[str(table.parent.name)]
    pairs = zip(table.parent.columns, table.parent.to_columns, strict=True)
    joins = [f"foreign({name}.{attributes[own]}) == {outer}.{_attribute(theirs)}" for own, theirs in pairs]
    joined = joins[0] if len(joins) == 1 else f"and_({', '.join(joins)})"
    attribute = distinct([*attributes.items(), ("", "parent")])[""]
    return ["", f'    {attribute}: Mapped["{outer}"] = relationship(primaryjoin={_literal(joined)}, viewonly=True)']


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
