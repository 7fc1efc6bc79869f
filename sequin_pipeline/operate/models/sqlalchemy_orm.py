"""This module writes declarative classes of SQLAlchemy 2.0, in Python."""

import json
import keyword
import re
from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.names import distinct, pascal_case
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
        {"ARRAY", "BigInteger", "Boolean", "Date", "DateTime", "Double", "Index", "Integer", "Numeric", "Text", "Uuid"}
    ),
    "sqlalchemy.dialects.postgresql": frozenset({"JSON", "JSONB"}),
    "sqlalchemy.orm": frozenset({"DeclarativeBase", "Mapped", "mapped_column"}),
}

_NAMES = re.compile(r"[A-Za-z_]+")

_TAKEN = frozenset({"metadata", "registry"}).union(*_IMPORTS.values(), *(_NAMES.findall(value) for _, value in _TYPES.values()))
"""The declarative base has these names for itself, and definitions further down in the class would no longer find the others."""


def sqlalchemy_models(tables: Sequence[ModelTable]) -> str:
    """Returns a module with a class for each table on a base of its own: replace that by your own."""
    names = distinct([("", "Base"), *((str(t.name), pascal_case(f"{t.name.schema}_{t.name.name}")) for t in tables)])
    classes = ["class Base(DeclarativeBase):\n    pass\n"]
    classes += ["\n".join(_lines(names[str(table.name)], table)) + "\n" for table in tables]
    return "\n\n".join([_imports(tables), *classes])


def _imports(tables: Sequence[ModelTable]) -> str:
    types = {
        name for table in tables for column in table.columns for text in _TYPES[column.type] for name in _NAMES.findall(text)
    }
    if any(table.indexes for table in tables):
        types.add("Index")
    used = types | _IMPORTS["sqlalchemy.orm"]
    lines = [f"from {module} import {', '.join(sorted(names & used))}" for module, names in _IMPORTS.items() if names & used]
    return "\n".join(lines) + "\n"


def _lines(name: str, table: ModelTable) -> list[str]:
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
    ]


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
