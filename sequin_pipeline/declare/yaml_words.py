"""This module says what a wrong key or word of a defs.yaml may have been meant to be, from the models that know the right ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from pydantic import BaseModel

from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.declare.yaml_models import ProviderModel

COMPONENT = "sequin_pipeline.component.CollectionSync"
FILE_KEYS = ("type", "attributes")

SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("string", "str", "varchar", "char", "character varying"), "text"),
    **dict.fromkeys(("int", "int4"), "integer"),
    **dict.fromkeys(("int8", "long", "biginteger"), "bigint"),
    **dict.fromkeys(("decimal", "number"), "numeric"),
    **dict.fromkeys(("float", "double", "float8", "real"), "double precision"),
    **dict.fromkeys(("timestamp", "datetime", "timestamp with time zone"), "timestamptz"),
    **dict.fromkeys(("json", "object", "map", "dict"), "jsonb"),
    **dict.fromkeys(("array", "list", "string[]", "varchar[]", "text array"), "text[]"),
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    **dict.fromkeys(("delete", "drop", "purge"), "remove"),
    **dict.fromkeys(("unix", "epoch", "seconds"), "epoch_seconds"),
    **dict.fromkeys(("milliseconds", "epoch_millis", "epoch_ms"), "epoch_milliseconds"),
}
"""Other tools have these words for those of a defs.yaml."""


def explained(error_type: str, message: str, place: Sequence[str], value: object) -> str:
    """Returns pydantic's message about a place in the file, its keys from the outermost on, with what may have been meant."""
    if error_type == "extra_forbidden":
        keys = FILE_KEYS if len(place) == 1 else _keys(place[1:-1])
        said = suggestion(place[-1], keys, are="there may be") if keys else "remove it"
        return f"there is no such key here: {said}"
    if error_type == "literal_error":
        expected = re.findall("'([^']*)'", message)
        known = SYNONYMS.get(str(value).lower())
        said = f"did you mean {known!r}?" if known in expected else suggestion(str(value), expected)
        return f"{message}: {said}" if said.endswith("?") else message
    return message


def _keys(path: Sequence[str]) -> list[str]:
    """Returns the keys that the mapping at a path below `attributes` may have."""
    model: type[BaseModel] = ProviderModel
    rest = list(path)
    while rest:
        field = model.model_fields.get(rest.pop(0))
        inner = next(_models(field.annotation), None) if field is not None else None
        if field is None or inner is None:
            return []
        if field.annotation is not inner and getattr(field.annotation, "__origin__", None) in (dict, list):
            rest = rest[1:]  # the name of a member, or its number
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
