"""This module writes entity schemas of TypeORM, in TypeScript without decorators."""

from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.table import ModelColumn, ModelIndex, ModelTable
from sequin_pipeline.operate.models.typescript import belonging, doc_comment, literal, model_names, property_names

_TYPES: Mapping[str, tuple[str, str]] = {
    "text": ("text", "string"),
    "boolean": ("boolean", "boolean"),
    "integer": ("integer", "number"),
    "bigint": ("bigint", "string"),
    "numeric": ("numeric", "string"),
    "double precision": ("double precision", "number"),
    "date": ("date", "string"),
    "timestamptz": ("timestamp with time zone", "Date"),
    "uuid": ("uuid", "string"),
    "text[]": ("text", "(string | null)[]"),
    "jsonb": ("jsonb", "unknown"),
    "json": ("json", "unknown"),
}
"""By type, this gives the column's, and that of the value as TypeORM reads it.

A bigint and a numeric are strings, which keep every digit.
"""


def typeorm_models(tables: Sequence[ModelTable]) -> str:
    """Returns a module that exports for each table an interface, and its entity as `<interface>Entity`."""
    names = model_names(tables)
    blocks = ['import { EntitySchema } from "typeorm";']
    blocks += ["\n".join(_lines(names[str(table.name)], table, belonging(table, names))) for table in tables]
    return "\n\n".join(blocks) + "\n"


def _lines(name: str, table: ModelTable, belongs: str) -> list[str]:
    properties = property_names(table)
    lines = [*doc_comment(f"{table.description} {belongs}"), *doc_comment(table.remark), f"export interface {name} {{"]
    for column in table.columns:
        null = " | null" if column.is_nullable else ""
        lines += doc_comment(column.description, indent="  ")
        lines.append(f"  {properties[column.name]}: {_read_as(column)}{null};")
    lines += ["}", "", f"export const {name}Entity = new EntitySchema<{name}>({{", f"  name: {literal(name)},"]
    lines += [f"  schema: {literal(table.name.schema)},", f"  tableName: {literal(table.name.name)},"]
    # The pipeline alone alters the table; and TypeORM would take its comment away, which no entity schema can name.
    lines += [
        "  synchronize: false,",
        "  columns: {",
        *(f"    {properties[column.name]}: {_options(column)}," for column in table.columns),
    ]
    lines.append("  },")
    if table.indexes:
        lines += ["  indices: [", *(f"    {_index(index, properties)}," for index in table.indexes), "  ],"]
    return [*lines, "});"]


def _read_as(column: ModelColumn) -> str:
    read_as = _TYPES[column.type][1]
    return "string[]" if column.type == "text[]" and not column.holds_nulls else read_as


def _index(index: ModelIndex, properties: Mapping[str, str]) -> str:
    columns = ", ".join(literal(properties[column]) for column in index.columns)
    return f"{{ name: {literal(index.name)}, columns: [{columns}] }}"


def _options(column: ModelColumn) -> str:
    options = [f"name: {literal(column.name)}", f"type: {literal(_TYPES[column.type][0])}"]
    if column.type == "text[]":
        options.append("array: true")
    if column.is_key:
        options.append("primary: true")
    if column.is_nullable:
        options.append("nullable: true")
    if column.description:
        # Without it TypeORM would take the pipeline's comment away.
        options.append(f"comment: {literal(column.description)}")
    return f"{{ {', '.join(options)} }}"
