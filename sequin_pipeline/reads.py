"""This module says how the collections of an API or of a connector are read, as validated values.

They hold what a defs.yaml says below `api`, `connector` and `read`.

Knows no HTTP and no process; the sources that do take these values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

JsonPath = tuple[str, ...]
"""This holds the names of the keys that lead to a value of an object; it is empty for the object itself."""

SinceFormat = Literal["iso", "epoch_seconds", "epoch_milliseconds"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Variable:
    """This value stands in the environment under its name: `{env: NAME}`. What it holds is a secret.

    With a `default` it need not be there: `{env: NAME, default: TEXT}`, which is for addresses and the like.
    """

    name: str
    default: str | None = None

    def value(self, environment: Mapping[str, str]) -> str:
        """Returns what the environment holds, or the default; raises KeyError where there is neither."""
        held = environment.get(self.name, "").strip()
        return held or (environment[self.name].strip() if self.default is None else self.default)


Setting = str | Variable
"""This is a value of the file, or of the environment."""


def variables_in(value: object) -> tuple[str, ...]:
    """Returns the names of all variables in a value of YAML, however deep, that the environment has to hold."""
    if isinstance(value, Variable):
        return (value.name,) if value.default is None else ()
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return tuple(name for one in inner for name in variables_in(one))


def filled(value: Value, environment: Mapping[str, str]) -> Value:
    """Returns a value of YAML with each variable in it replaced by what the environment holds; raises KeyError where that is nothing."""
    return cast("Value", _filled(value, environment))


def _filled(value: object, environment: Mapping[str, str]) -> object:
    if isinstance(value, Variable):
        return value.value(environment)
    if isinstance(value, Mapping):
        return {key: _filled(one, environment) for key, one in value.items()}
    return [_filled(one, environment) for one in value] if isinstance(value, list | tuple) else value


def with_variables(value: object) -> object:
    """Returns a value of YAML in which each mapping `{env: NAME}` has become a Variable."""
    if isinstance(value, Mapping):
        if set(value) == {"env"} and isinstance(value["env"], str):
            return Variable(value["env"])
        return {key: with_variables(one) for key, one in value.items()}
    return [with_variables(one) for one in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Since:
    """This value says how an API is asked for what has changed.

    `{since}` in `params`, `path` or `json` stands for a time in this format.

    `lookback_seconds` is how far before the newest version known it asks, for an API whose answers are late. `first` is the time that a
    whole read asks for (ISO, UTC). `{until}` stands for the end of a window (now, where there is none).
    """

    format: SinceFormat = "iso"
    lookback_seconds: int = 0
    first: str = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class FieldList:
    """This value says where the API itself lists an object's fields.

    One request to `path` has an array at `select`, in each element of which `name` leads to a name.

    `{fields}` in `params`, `path` or `json` stands for these names with commas between, so that an object comes whole where an API wants
    each field to be named, and none is named that this account has not or may not see.
    """

    path: str
    name: JsonPath
    select: JsonPath = ()


@dataclass(frozen=True)
class Read:
    """This value says how one collection is read from an API.

    `select` leads to the array of objects in an answer. `key` are the values that tell objects apart, `version` is the time (or the
    integer) that grows with each change, `created` the time of creation, `deleted` a flag that says that the object is gone. `each` are
    the values of names in braces of `path`, `params` and `json`: one partition for each combination. `is_ascending`: the list comes in the
    order of its versions, which is checked. `is_descending`: it comes with the newest version first, so that a read of what has changed may
    end at the first page that holds nothing new. `detail` is the path of one object, asked for once for each that has changed; names in
    braces are keys of the object or of `each`. `restart_after` begins the list anew, at the newest version, after so many objects: where
    a list has an end that it does not tell, or moves under the reader who counts its pages. `fields` is what `{fields}` stands for.
    `changes` is how what has changed is asked for, where that is another request than the list: its path, method, params, json,
    paginator, select, since, order, restart and detail; what tells objects apart and `each` are those of the list.
    """

    path: str
    key: tuple[JsonPath, ...]
    select: JsonPath = ()
    version: JsonPath | None = None
    created: JsonPath | None = None
    deleted: JsonPath | None = None
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, object] = field(default_factory=dict)
    json: Mapping[str, object] | None = None
    paginator: Mapping[str, object] | None = None
    each: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    since: Since = Since()
    is_ascending: bool = False
    is_descending: bool = False
    detail: str | None = None
    restart_after: int | None = None
    fields: FieldList | None = None
    changes: "Read | None" = None


@dataclass(frozen=True)
class RateLimit:
    """This value says what the headers of an answer tell about how many requests are left.

    It holds names of headers, each None where the API has none.

    `remaining` counts requests; at none left nothing is asked before `reset` (`reset_is`: seconds since 1970, or seconds from now).
    `usage` is of the form `api-usage=18/5000` (Salesforce): at `usage_limit` of it the run ends in words. `requests_per_second` bounds
    the speed from the start.
    """

    remaining: str | None = None
    reset: str | None = None
    reset_is: Literal["epoch_seconds", "seconds", "milliseconds"] = "epoch_seconds"
    usage: str | None = None
    usage_limit: float = 0.95
    requests_per_second: float | None = None


@dataclass(frozen=True)
class RestApi:
    """This value is an API, and how each declared collection is read from it, by the collection's name.

    `auth` has `type` (`bearer`, `api_key`, `http_basic`, `oauth2_client_credentials`) and the settings of that type by dlt's names; an
    `access_token_url` that begins with no scheme is a path below `base_url`.
    `paginator` has `type` and the settings of that type by dlt's names. `preset` is the name of the shipped preset that it began with,
    `said` what the file itself says, as YAML: `api`, and each `read` by the collection's name.
    """

    base_url: Setting
    reads: Mapping[str, Read]
    auth: Mapping[str, Setting] | None = None
    headers: Mapping[str, Setting] = field(default_factory=dict)
    paginator: Mapping[str, object] = field(default_factory=lambda: {"type": "single_page"})
    rate_limit: RateLimit = RateLimit()
    preset: str | None = None
    said: Mapping[str, Mapping[str, object]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class StreamRead:
    """This value says how one collection is read from a connector.

    It names the stream, and, where the connector does not say, what tells records apart.

    `key`, `version` and `deleted` mean what they mean in Read; None leaves them to the connector's catalog.
    """

    stream: str
    key: tuple[JsonPath, ...] | None = None
    version: JsonPath | None = None
    deleted: JsonPath | None = None


@dataclass(frozen=True)
class Connector:
    """This value is a connector of Airbyte, or a Singer tap, that runs as a process of its own.

    `command` starts it. `config` is its configuration, in which a Variable may stand anywhere; `options` are arguments of each call.
    """

    command: tuple[str, ...]
    config: Mapping[str, object] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    reads: Mapping[str, StreamRead] = field(default_factory=dict)
