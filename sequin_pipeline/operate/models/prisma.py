"""This module writes models of Prisma, for a schema.prisma whose datasource is postgresql."""

from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.relations import Relation
from sequin_pipeline.operate.models.table import ModelColumn, ModelTable
from sequin_pipeline.operate.models.typescript import (
    belonging,
    literal,
    model_names,
    model_relations,
    one_line,
    property_names,
)

_TYPES: Mapping[str, tuple[str, str]] = {
    "text": ("String", ""),
    "boolean": ("Boolean", ""),
    "integer": ("Int", ""),
    "bigint": ("BigInt", ""),
    "numeric": ("Decimal", "@db.Decimal"),
    "double precision": ("Float", ""),
    "date": ("DateTime", "@db.Date"),
    "timestamptz": ("DateTime", "@db.Timestamptz(6)"),
    "uuid": ("String", "@db.Uuid"),
    "text[]": ("String[]", ""),
    "jsonb": ("Json", ""),
    "json": ("Json", "@db.Json"),
}
"""By type, this gives Prisma's own, and the native type where it is not what Prisma would choose."""


WITHOUT_KEY = "A relation needs a foreign key in the database: declare the child table with `foreign_key: true`."


def prisma_models(tables: Sequence[ModelTable]) -> str:
    """Returns the models only: generator and datasource are the application's.

    A null list is read as an empty one. There are relations where the database has a foreign key: Prisma would add any other one's.
    """
    names, of = model_names(tables), model_relations(tables)
    schemas = ", ".join(literal(schema) for schema in dict.fromkeys(table.name.schema for table in tables))
    blocks = [f"// The datasource needs: schemas = [{schemas}]"]
    for table in tables:
        properties = property_names(table)
        fields = [
            line
            for column in table.columns
            for line in (*_comments(column), f"  {_field(properties[column.name], column, is_only_key=len(table.key) == 1)}")
        ]
        fields += [f"  {_relation(each, properties, names)}" for each in of[str(table.name)] if each.constraint]
        keys = [f"  @@id([{', '.join(properties[name] for name in table.key)}])"] if len(table.key) > 1 else []
        mapping = ["", *keys, f"  @@map({literal(table.name.name)})", f"  @@schema({literal(table.name.schema)})"]
        indexes = [
            f"  @@index([{', '.join(properties[column] for column in index.columns)}], map: {literal(index.name)})"
            for index in table.indexes
        ]
        lines = [
            *_comment(table.description),
            *_comment(table.remark),
            *_comment(belonging(table, names)),
            *_comment("" if table.parent is None or table.parent.constraint else WITHOUT_KEY),
            f"model {names[str(table.name)]} {{",
            *fields,
            *mapping,
            *indexes,
            "}",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _field(name: str, column: ModelColumn, *, is_only_key: bool) -> str:
    kind, native = _TYPES[column.type]
    is_optional = column.is_nullable and not kind.endswith("[]")
    renamed = "" if name == column.name else f"@map({literal(column.name)})"
    parts = (name, f"{kind}{'?' if is_optional else ''}", "@id" if column.is_key and is_only_key else "", renamed, native)
    return " ".join(filter(None, parts))


def _relation(relation: Relation, properties: Mapping[str, str], names: Mapping[str, str]) -> str:
    to = names[str(relation.to.name)]
    if relation.is_many:
        return f"{relation.name} {to}[]"
    theirs = property_names(relation.to)
    fields = ", ".join(properties[name] for name in relation.columns)
    references = ", ".join(theirs[name] for name in relation.to_columns)
    actions = f"onDelete: NoAction, onUpdate: NoAction, map: {literal(relation.constraint or '')}"
    return f"{relation.name} {to} @relation(fields: [{fields}], references: [{references}], {actions})"


def _comments(column: ModelColumn) -> list[str]:
    warning = "  // Prisma fails at a null within the array: declare the column with `nulls: reject`."
    return [*_comment(column.description, indent="  "), *([warning] if column.holds_nulls else [])]


def _comment(text: str, *, indent: str = "") -> list[str]:
    # Prisma copies it into comments of the client that it writes.
    line = one_line(text)
    return [f"{indent}/// {line}"] if line else []
