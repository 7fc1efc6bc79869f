"""This module writes tables of Drizzle ORM (`drizzle-orm/pg-core`), in TypeScript."""

from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.names import camel_case, distinct
from sequin_pipeline.operate.models.relations import Relation
from sequin_pipeline.operate.models.table import ModelColumn, ModelTable, primary_key_name
from sequin_pipeline.operate.models.typescript import (
    belonging,
    doc_comment,
    literal,
    model_names,
    model_relations,
    property_names,
)
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
    """Returns a module that exports each table in camelCase, each schema but public, and the relations of tables with children."""
    names = model_names(tables)
    constants = {name: camel_case(chosen) for name, chosen in names.items()}
    schemas = _schema_names(tables, taken=list(constants.values()))
    of = model_relations(tables)
    lines = [*_imports(tables, of), ""]
    lines += [f"export const {name} = pgSchema({literal(schema)});" for schema, name in schemas.items()]
    for table in tables:
        factory = f"{schemas[table.name.schema]}.table" if table.name.schema in schemas else "pgTable"
        properties = property_names(table)
        lines += ["", *doc_comment(f"{table.description} {belonging(table, names)}"), *doc_comment(table.remark)]
        lines.append(f"export const {constants[str(table.name)]} = {factory}({literal(table.name.name)}, {{")
        for column in table.columns:
            lines += doc_comment(column.description, indent="  ")
            lines.append(f"  {properties[column.name]}: {_definition(column, is_only_key=len(table.key) == 1)},")
        keys = [_foreign_key(each, properties, constants) for each in of[str(table.name)] if each.constraint and not each.is_many]
        lines.append(_end(table, properties, keys))
    return "\n".join([*lines, *_relations(tables, of, constants, taken=list(schemas.values()))]) + "\n"


def _imports(tables: Sequence[ModelTable], of: Mapping[str, Sequence[Relation]]) -> list[str]:
    used = {_BUILDERS[column.type][0] for table in tables for column in table.columns}
    used |= {"pgTable" if table.name.schema == "public" else "pgSchema" for table in tables}
    if any(table.indexes for table in tables):
        used.add("index")
    if any(table.is_by_tenant for table in tables):
        used.add("pgPolicy")
    if any(len(table.key) > 1 for table in tables):
        used.add("primaryKey")
    if any(relation.constraint for found in of.values() for relation in found):
        used.add("foreignKey")
    general = [*(["relations"] if any(of.values()) else []), *(["sql"] if "pgPolicy" in used else [])]
    lines = [f'import {{ {", ".join(general)} }} from "drizzle-orm";'] if general else []
    return [*lines, f'import {{ {", ".join(sorted(used))} }} from "drizzle-orm/pg-core";']


def _relations(
    tables: Sequence[ModelTable], of: Mapping[str, Sequence[Relation]], constants: Mapping[str, str], *, taken: Sequence[str]
) -> list[str]:
    """Returns the relations of each table that has some."""
    proposals = [("", name) for name in (*constants.values(), *taken)]
    chosen = distinct([*proposals, *((name, f"{constant}Relations") for name, constant in constants.items())])
    lines = []
    for table in tables:
        name, found = str(table.name), of[str(table.name)]
        if not found:
            continue
        kinds = ", ".join(sorted({"many" if each.is_many else "one" for each in found}))
        lines += ["", f"export const {chosen[name]} = relations({constants[name]}, ({{ {kinds} }}) => ({{"]
        for each in found:
            to = constants[str(each.to.name)]
            own, theirs = _columns(table, each.columns, constants[name]), _columns(each.to, each.to_columns, to)
            joined = f"many({to})" if each.is_many else f"one({to}, {{ fields: [{own}], references: [{theirs}] }})"
            lines.append(f"  {each.name}: {joined},")
        lines.append("}));")
    return lines


def _foreign_key(relation: Relation, properties: Mapping[str, str], constants: Mapping[str, str]) -> str:
    # Without it `drizzle-kit push` would take the foreign key away.
    own = ", ".join(f"table.{properties[name]}" for name in relation.columns)
    theirs = _columns(relation.to, relation.to_columns, constants[str(relation.to.name)])
    return f"foreignKey({{ name: {literal(relation.constraint or '')}, columns: [{own}], foreignColumns: [{theirs}] }})"


def _columns(table: ModelTable, columns: Sequence[str], constant: str) -> str:
    properties = property_names(table)
    return ", ".join(f"{constant}.{properties[name]}" for name in columns)


def _schema_names(tables: Sequence[ModelTable], *, taken: Sequence[str]) -> Mapping[str, str]:
    schemas = dict.fromkeys(table.name.schema for table in tables if table.name.schema != "public")
    proposals = [("", name) for name in taken] + [(schema, f"{camel_case(schema)}Schema") for schema in schemas]
    return {schema: name for schema, name in distinct(proposals).items() if schema}


def _end(table: ModelTable, properties: Mapping[str, str], foreign_keys: Sequence[str]) -> str:
    # By the name that Postgres gives it: `drizzle-kit push` would make another one.
    columns = ", ".join(f"table.{properties[name]}" for name in table.key)
    keys = [f"primaryKey({{ name: {literal(primary_key_name(table.name))}, columns: [{columns}] }})"]
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
    extras = [*indexes, *foreign_keys, *policies]
    return f"}}, (table) => [{', '.join(extras)}]);" if extras else "});"


def _definition(column: ModelColumn, *, is_only_key: bool) -> str:
    builder, options, suffix = _BUILDERS[column.type]
    arguments = ", ".join(filter(None, (literal(column.name), options)))
    constraint = ".primaryKey()" if column.is_key and is_only_key else "" if column.is_nullable else ".notNull()"
    return f"{builder}({arguments}){suffix}{constraint}"
