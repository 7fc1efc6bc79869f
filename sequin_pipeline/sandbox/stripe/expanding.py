"""This module puts whole objects in the place of ids, where a request asks for that with `expand[]`."""

from collections.abc import Callable, Sequence
from typing import Any

from sequin_pipeline.sandbox.stripe.refusals import refused_parameter
from sequin_pipeline.sandbox.stripe.shelf import Shown

Find = Callable[[str], Shown | None]

MAX_DEPTH = 4

INCLUDABLE = frozenset({"applies_to", "line_items", "tiers"})
"""These fields are left out of answers unless they are asked for; no object here has one."""


def read_paths(params: Sequence[tuple[str, str]], *, is_list: bool) -> list[list[str]]:
    """Returns the paths to expand within one object; raises StripeError."""
    paths = []
    for name, text in params:
        if name not in ("expand", "expand[]"):
            continue
        path = text.split(".")
        if is_list and path.pop(0) != "data":
            raise refused_parameter("expand", f"{text!r} must begin with data. in a list")
        if not 1 <= len(path) <= MAX_DEPTH or not all(path):
            raise refused_parameter("expand", f"{text!r} names no property of at most {MAX_DEPTH} levels")
        paths.append(path)
    return paths


def expanded(node: Any, path: Sequence[str], find: Find) -> Any:
    """Returns the JSON value with the object in the place of the id at the path; what is no id stays.

    Raises StripeError for a property that is not there.
    """
    if isinstance(node, list):
        return [expanded(element, path, find) for element in node]
    if isinstance(node, str) and (found := find(node)) is not None:
        node = found
    if not path or not isinstance(node, dict):
        return node
    name, *rest = path
    if name in INCLUDABLE:
        return node
    if name not in node:
        raise refused_parameter("expand", f"{name!r} is no property that can be expanded here")
    return {**node, name: expanded(node[name], rest, find)}
