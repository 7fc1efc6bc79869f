"""This module reads a request's parameters and body, and refuses in the API's words what is not as it should be."""

import json
from collections.abc import Mapping
from typing import TypeVar

from starlette.requests import Request

from sequin_pipeline.sandbox.answers import ApiError, invalid

_Choice = TypeVar("_Choice", bound=str)


async def json_object(request: Request) -> dict[str, object]:
    """Reads the body of a request; an empty one is an empty object; raises ApiError (400)."""
    text = await request.body()
    try:
        content = json.loads(text) if text else {}
    except ValueError as error:
        raise ApiError(400, "The body is not JSON") from error
    if not isinstance(content, dict):
        raise ApiError(400, "The body is not a JSON object")
    return content


def whole_number(asked: Mapping[str, object], name: str, *, default: int, lowest: int, highest: int) -> int:
    """Reads a whole number; raises ApiError (422)."""
    text = str(asked.get(name, default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and lowest <= int(text) <= highest):
        raise invalid(name, f"must be a whole number from {lowest} to {highest}")
    return int(text)


def choice(asked: Mapping[str, object], name: str, *, choices: tuple[_Choice, ...], default: _Choice) -> _Choice:
    """Reads one of some choices; raises ApiError (422)."""
    if name not in asked:
        return default
    for possible in choices:
        if asked[name] == possible:
            return possible
    raise invalid(name, f"must be one of {', '.join(choices)}")


def strings(asked: Mapping[str, object], name: str) -> list[str]:
    """Reads a list of strings; raises ApiError (422)."""
    values = asked.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid(name, "must be a list of strings")
    return values
