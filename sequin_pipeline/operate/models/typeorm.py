"""This module writes entity schemas of TypeORM, in TypeScript without decorators."""

from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.relations import Relation, inverse
from sequin_pipeline.operate.models.table import ModelColumn, ModelIndex, ModelTable
from sequin_pipeline.operate.models.typescript import (
    belonging,
    doc_comment,
    literal,
    model_names,
    model_relations,
    property_names,
)

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
    of = model_relations(tables)
    blocks += ["\n".join(_lines(table, names, of)) for table in tables]
    return "\n\n".join(blocks) + "\n"


def _lines(table: ModelTable, names: Mapping[str, str], of: Mapping[str, Sequence[Relation]]) -> list[str]:
    name, found, properties = names[str(table.name)], of[str(table.name)], property_names(table)
    described = doc_comment(f"{table.description} {belonging(table, names)}")
    lines = [*described, *doc_comment(table.remark), f"export interface {name} {{"]
    for column in table.columns:
        null = " | null" if column.is_nullable else ""
        lines += doc_comment(column.description, indent="  ")
        lines.append(f"  {properties[column.name]}: {_read_as(column)}{null};")
    lines += [f"  {each.name}?: {names[str(each.to.name)]}{'[]' if each.is_many else ''};" for each in found]
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
    if found:
        options = [(each, inverse(each, table, of).name) for each in found]
        lines += ["  relations: {", *(f"    {each.name}: {_relation(each, back, names)}," for each, back in options), "  },"]
    return [*lines, "});"]


def _relation(relation: Relation, back: str, names: Mapping[str, str]) -> str:
    target, inverse_side = f"target: {literal(names[str(relation.to.name)])}", f"inverseSide: {literal(back)}"
    if relation.is_many:
        return f'{{ type: "one-to-many", {target}, {inverse_side} }}'
    theirs = property_names(relation.to)
    named = f", foreignKeyConstraintName: {literal(relation.constraint)}" if relation.constraint else ""
    joined = ", ".join(
        f"{{ name: {literal(own)}, referencedColumnName: {literal(theirs[name])}{named} }}"
        for own, name in zip(relation.columns, relation.to_columns, strict=True)
    )
    key = 'deferrable: "INITIALLY DEFERRED"' if relation.constraint else "createForeignKeyConstraints: false"
    return f'{{ type: "many-to-one", {target}, {inverse_side}, joinColumn: [{joined}], {key} }}'


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
