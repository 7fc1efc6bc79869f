"""This module reads single values of `api` and `read`: settings, secrets, paths, durations, times and names of headers."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from sequin_pipeline.catalog import parse_path
from sequin_pipeline.declare.node import Node, check_text
from sequin_pipeline.declare.rest_models import DURATION_PATTERN
from sequin_pipeline.declare.strict_model import VARIABLE_PATTERN
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.reads import JsonPath, Setting, Variable

TOKEN_BEGINNINGS = ("ghp_", "gho_", "ghs_", "ghu_", "github_pat_", "sk_", "rk_", "xoxb_")
"""Keys of providers begin so, and could be taken for names of variables."""

SECRET_NAME = re.compile(
    r"authorization|cookie|(^|[-_])(api[-_]?key|(access[-_]?|auth[-_]?)?token|secret|passw(or)?d)$", re.IGNORECASE
)
"""Headers and parameters of such names hold what lets somebody in."""

HEADER_PATTERN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def setting(value: object, what: str, node: Node) -> Setting:
    """Returns a text of the file, or the variable that `{env: NAME}` names."""
    if isinstance(value, Mapping) and set(value) == {"env"} and isinstance(value["env"], str):
        return Variable(_variable(value["env"], what, node))
    if isinstance(value, str) and value.strip():
        return value
    found = "an empty text" if isinstance(value, str) else "something else"
    hint = ": write a number or a boolean in quotes" if isinstance(value, bool | int | float) else ""
    raise node.refused(f"{what} is to be a text, or {{env: NAME}} for what a variable holds, and is {found}{hint}")


def secret(value: object, what: str, node: Node) -> Variable:
    """Returns the variable that holds a secret; the secret itself is refused, and not quoted."""
    if isinstance(value, str):
        name = what.split()[-1].strip("'")
        raise node.refused(
            f"{what} is a secret, and stands in this file: name the variable that holds it, as in {name}: {{env: {name.upper()}}}"
        )
    found = setting(value, what, node)
    assert isinstance(found, Variable)  # noqa: S101 - a text was refused above
    return found


def values(value: object, what: str, node: Node) -> tuple[Setting, ...]:
    """Returns the values of a name in braces: one, a list of them, or a variable that holds them."""
    if value in ([], {}):
        raise node.refused(f"{what} has no value: name at least one")
    if isinstance(value, list):
        found = tuple(setting(one, what, node / index) for index, one in enumerate(value))
    else:
        found = (setting(value, what, node),)
    if len(set(found)) < len(found):
        raise node.refused(f"{what} has a value twice: name each once")
    return found


def with_settings(value: object, what: str, node: Node) -> object:
    """Returns a value of YAML in which each `{env: NAME}` has become its variable."""
    if isinstance(value, Mapping):
        if set(value) == {"env"}:
            return setting(value, what, node)
        return {key: with_settings(inner, what, node / key) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_settings(inner, what, node / index) for index, inner in enumerate(value)]
    return value


def refuse_literal_secret(name: str, value: object, what: str, node: Node) -> None:
    """Refuses a text under a name that says that it lets somebody in."""
    if isinstance(value, str) and SECRET_NAME.search(name) and not re.fullmatch(r"\{[\w.]+\}", value):
        raise node.refused(
            f"{what} {name!r} looks like a secret, and stands in this file: name the variable that holds it, as in "
            f"{name}: {{env: {re.sub(r'[^A-Z0-9]+', '_', name.upper())}}}"
        )


def json_path(text: str, what: str, node: Node) -> JsonPath:
    """Returns the keys that lead to a value of an object; an index is none of them."""
    try:
        path = parse_path(text)
    except CatalogError as error:
        raise node.refused(f"{what}: {error}") from error
    steps = tuple(step for step in path.steps if isinstance(step, str))
    if len(steps) < len(path.steps):
        raise node.refused(f"{what} {text!r} has an index: write keys only, as in paging.next")
    return ("record", *steps) if path.root == "record" else steps


def seconds(text: str, what: str, node: Node) -> int:
    """Returns the seconds of a duration as `10m`."""
    check_text(
        what, text, DURATION_PATTERN, node=node, rule="a number of seconds, minutes, hours or days, as in 30s, 10m, 2h or 1d"
    )
    return int(text[:-1]) * _SECONDS[text[-1]]


def moment(text: str, what: str, node: Node) -> str:
    """Returns a time in UTC as ISO text with its zone."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise node.refused(f"{what} {text!r} is not a time: write a day or a time in UTC, as in 2024-01-01") from error
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def header_name(text: str, what: str, node: Node) -> str:
    """Returns the name of a header."""
    check_text(what, text, HEADER_PATTERN, node=node, rule="the name of a header, as in X-RateLimit-Remaining")
    return text


def _variable(name: str, what: str, node: Node) -> str:
    if not re.fullmatch(VARIABLE_PATTERN, name) or name.startswith(TOKEN_BEGINNINGS):
        # Not quoted: it may be the secret itself.
        raise node.refused(f"{what}: what stands behind `env` is not the name of a variable, as in {{env: GITHUB_TOKEN}}")
    return name
