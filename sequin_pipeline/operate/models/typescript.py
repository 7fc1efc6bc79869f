"""This module holds what the formats of TypeScript share: literals, comments, names of tables and properties."""

import json
from collections.abc import Mapping, Sequence

from sequin_pipeline.operate.models.names import camel_case, distinct, pascal_case
from sequin_pipeline.operate.models.relations import Relation, relations
from sequin_pipeline.operate.models.table import ModelTable

OBJECT_MEMBERS = (
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
)
"""TypeScript takes an object without such a property for one that has it, as a function."""


def literal(text: str) -> str:
    """Returns a string literal; JSON's are TypeScript's."""
    return json.dumps(text, ensure_ascii=False)


def doc_comment(text: str, *, indent: str = "") -> list[str]:
    """Returns the lines of a comment that editors show, or none where there is nothing to say."""
    line = one_line(text)
    return [f"{indent}/** {line} */"] if line else []


def one_line(text: str) -> str:
    """Returns the text without line breaks, and without what would end a comment."""
    return " ".join(text.split()).replace("*/", "*\\/")


def model_names(tables: Sequence[ModelTable]) -> Mapping[str, str]:
    """Returns, by `schema.table`, a PascalCase name that is no other table's."""
    return distinct((str(table.name), pascal_case(f"{table.name.schema}_{table.name.name}")) for table in tables)


def belonging(table: ModelTable, names: Mapping[str, str]) -> str:
    """Returns a sentence that says to which row of its parent each row of a child table belongs; nothing for any other table."""
    if table.parent is None:
        return ""
    outer = names.get(str(table.parent.name), str(table.parent.name))
    equal = " and ".join(f"{theirs} = {own}" for own, theirs in zip(table.parent.columns, table.parent.to_columns, strict=True))
    return f"Each row belongs to the row of {outer} with {equal}."


def property_names(table: ModelTable) -> Mapping[str, str]:
    """Returns, by column, a camelCase name that is no other column's, and no member that every object has."""
    columns = [(column.name, camel_case(column.name)) for column in table.columns]
    # No column is named as these originals.
    found = distinct([*((f"{name}()", name) for name in OBJECT_MEMBERS), *columns])
    return {name: found[name] for name, _ in columns}


def model_relations(tables: Sequence[ModelTable]) -> Mapping[str, Sequence[Relation]]:
    """Returns, by `schema.table`, the relations of each model, in camelCase."""
    return relations(tables, property_names, camel_case)
