"""This module writes tables of Drizzle ORM (`drizzle-orm/pg-core`), in TypeScript."""

from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.names import camel_case, distinct
from sequin_pipeline.operate.models.table import ModelColumn, ModelTable
from sequin_pipeline.operate.models.typescript import belonging, doc_comment, literal, model_names, property_names
from sequin_pipeline.table.row_security import POLICY, STORED_CONDITION

_BUILDERS: Mapping[str, tuple[str, str, str]] = {
    "text": ("text", "", ""),
    "boolean": ("boolean", "", ""),
    "integer": ("integer", "", ""),
    "bigint": ("bigint", '{ mode: "bigint" }', ""),
    "numeric": ("numeric", "", ""),
    "double precision": ("doublePrecision", "", ""),
    "date": ("date", "", ""),
    "timestamptz": ("timestamp", "{ withTimezone: true }", ""),
    "uuid": ("uuid", "", ""),
    "text[]": ("text", "", ".array()"),
    "jsonb": ("jsonb", "", ""),
    "json": ("json", "", ""),
}
"""By type, this gives the builder, its options, and what follows the call; a bigint as a number would lose digits beyond 2^53."""


def drizzle_models(tables: Sequence[ModelTable]) -> str:
    """Returns a module that exports each table in camelCase, and each schema but public."""
    names = model_names(tables)
    schemas = _schema_names(tables, taken=[camel_case(name) for name in names.values()])
    builders = {_BUILDERS[column.type][0] for table in tables for column in table.columns}
    if any(table.indexes for table in tables):
        builders.add("index")
    if any(table.is_by_tenant for table in tables):
        builders.add("pgPolicy")
    if any(len(table.key) > 1 for table in tables):
        builders.add("primaryKey")
    factories = {"pgTable" if table.name.schema == "public" else "pgSchema" for table in tables}
    lines = ['import { sql } from "drizzle-orm";'] if "pgPolicy" in builders else []
    lines += [f'import {{ {", ".join(sorted(builders | factories))} }} from "drizzle-orm/pg-core";', ""]
    lines += [f"export const {name} = pgSchema({literal(schema)});" for schema, name in schemas.items()]
    for table in tables:
        factory = f"{schemas[table.name.schema]}.table" if table.name.schema in schemas else "pgTable"
        properties = property_names(table)
        lines += ["", *doc_comment(f"{table.description} {belonging(table, names)}"), *doc_comment(table.remark)]
        lines.append(f"export const {camel_case(names[str(table.name)])} = {factory}({literal(table.name.name)}, {{")
        for column in table.columns:
            lines += doc_comment(column.description, indent="  ")
            lines.append(f"  {properties[column.name]}: {_definition(column, is_only_key=len(table.key) == 1)},")
        lines.append(_end(table, properties))
    return "\n".join(lines) + "\n"


def _schema_names(tables: Sequence[ModelTable], *, taken: Sequence[str]) -> Mapping[str, str]:
    schemas = dict.fromkeys(table.name.schema for table in tables if table.name.schema != "public")
    proposals = [("", name) for name in taken] + [(schema, f"{camel_case(schema)}Schema") for schema in schemas]
    return {schema: name for schema, name in distinct(proposals).items() if schema}


def _end(table: ModelTable, properties: Mapping[str, str]) -> str:
    keys = [f"primaryKey({{ columns: [{', '.join(f'table.{properties[name]}' for name in table.key)}] }})"]
    indexes = keys if len(table.key) > 1 else []
    indexes += [
        f"index({literal(index.name)}).on({', '.join(f'table.{properties[column]}' for column in index.columns)})"
        for index in table.indexes
    ]
    # Without it `drizzle-kit push` would take the policy away.
    policies = (
        [f'pgPolicy({literal(POLICY)}, {{ for: "select", to: "public", using: sql`{STORED_CONDITION}` }})']
        if table.is_by_tenant
        else []
    )
    extras = [*indexes, *policies]
    return f"}}, (table) => [{', '.join(extras)}]);" if extras else "});"


def _definition(column: ModelColumn, *, is_only_key: bool) -> str:
    builder, options, suffix = _BUILDERS[column.type]
    arguments = ", ".join(filter(None, (literal(column.name), options)))
    constraint = ".primaryKey()" if column.is_key and is_only_key else "" if column.is_nullable else ".notNull()"
    return f"{builder}({arguments}){suffix}{constraint}"
