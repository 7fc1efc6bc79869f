"""This module holds all that is taken from dlt: its paginators, and what its authentication adds to a request.

dlt is an extra, imported when something is read. It gets its values from us, reads no configuration, sends nothing and stores nothing.
"""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from sequin_pipeline.errors import ConfigurationError

PAGINATORS: Mapping[str, str] = {
    "single_page": "SinglePagePaginator",
    "header_link": "HeaderLinkPaginator",
    "json_link": "JSONLinkPaginator",
    "cursor": "JSONResponseCursorPaginator",
    "header_cursor": "HeaderCursorPaginator",
    "offset": "OffsetPaginator",
    "page_number": "PageNumberPaginator",
}
"""These stand by the names that dlt's own declarations use."""

POSITIONAL = frozenset({"header_link", "offset", "page_number"})
"""These count objects from the beginning of the list: when one leaves its place, the next page skips one or brings one again."""

MAX_DIGITS = 19
"""A number of more digits is a name, and counts nothing."""

AUTHENTICATIONS: Mapping[str, str] = {
    "bearer": "BearerTokenAuth",
    "api_key": "APIKeyAuth",
    "http_basic": "HttpBasicAuth",
    "oauth2_client_credentials": "OAuth2ClientCredentials",
}


class NextRequest(Protocol):
    """This value is a request as a paginator changes it for the next page.

    It is one of the library requests, which is never sent.
    """

    method: str
    url: str
    params: Any  # Any: as the declaration has them
    json: Any


class SeenResponse(Protocol):
    """This value is what a paginator may look at."""

    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def links(self) -> Mapping[str, Mapping[str, str]]: ...
    def json(self) -> object: ...


class Paginator(Protocol):
    """A paginator finds the next request of one list."""

    @property
    def has_next_page(self) -> bool: ...
    def init_request(self, request: NextRequest) -> None: ...
    def update_state(self, response: SeenResponse, data: Sequence[object]) -> None: ...
    def update_request(self, request: NextRequest) -> None: ...


def paginator_factory(settings: Mapping[str, object]) -> Callable[[], Paginator]:
    """Returns what makes a paginator for each list; raises ConfigurationError for settings that it does not have."""
    kind = str(settings.get("type"))
    given = {name: value for name, value in settings.items() if name != "type"}
    if kind in ("offset", "page_number"):
        # dlt takes it for granted that an answer tells a `total`; an empty page is the end of those that do not.
        given.setdefault("total_path", None)
    prototype = _make(_import("paginators"), PAGINATORS, kind, given, "paginator")
    # Their state is in plain attributes; what is compiled once can be shared.
    return lambda: copy.copy(prototype)


def make_request(method: str, url: str, params: Mapping[str, object], json: Mapping[str, object] | None) -> NextRequest:
    """Returns a request that a paginator can change."""
    from requests import Request

    # Any: its attributes may be of many types, ours are of those that NextRequest says.
    held: Any = {"params": dict(params), "json": None if json is None else copy.deepcopy(dict(json))}
    request: Any = Request(method, url, **held)
    changeable: NextRequest = request
    return changeable


def step_by_what_came(paginator: Paginator, count: int) -> None:
    """Lets an offset grow by what has come where that is less than was asked for: many an API has a limit below the one that is declared.

    dlt (1.29) adds the declared limit, and so passes over the objects between.
    """
    limit = getattr(paginator, "limit", None)
    if isinstance(limit, int) and count and hasattr(paginator, "value_step"):
        paginator.value_step = min(limit, count)


def numbers_in(request: NextRequest) -> dict[str, int]:
    """Returns the whole numbers that a request sends in its address, parameters and body, by where they stand."""
    leaves = [*parse_qsl(urlsplit(request.url).query), *_leaves("", request.params), *_leaves("/", request.json)]
    texts = {name: str(value) for name, value in leaves}
    return {name: int(text) for name, text in texts.items() if text.isdecimal() and len(text) < MAX_DIGITS}


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}/{key}" if name else str(key), inner)
    else:
        yield name, value


def parse_links(header: str | None) -> Mapping[str, Mapping[str, str]]:
    """Returns the links of a header `Link`, by what they relate to."""
    from requests.utils import parse_header_links

    return {link.get("rel") or link.get("url", ""): link for link in parse_header_links(header)} if header else {}


def authentication(kind: str, settings: Mapping[str, object]) -> Any:  # Any: dlt's object
    """Returns dlt's object for a kind of authentication; raises ConfigurationError for settings that it does not have."""
    given = dict(settings)
    if kind == "oauth2_client_credentials":
        # Else it opens a session of its own; the token is asked for by our client.
        given["session"] = object()
    return _make(_import("auth"), AUTHENTICATIONS, kind, given, "auth")


def added_to_requests(auth: Any, base_url: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the headers and the parameters that an authentication adds to a request."""
    from requests import Request

    prepared = Request("GET", base_url).prepare()
    before = dict(prepared.headers)
    after = auth(prepared)
    headers = {name: str(value) for name, value in after.headers.items() if before.get(name) != value}
    return headers, dict(parse_qsl(urlsplit(after.url).query))


def _make(module: ModuleType, names: Mapping[str, str], kind: str, settings: Mapping[str, object], what: str) -> Any:
    if kind not in names:
        raise ConfigurationError(f"{what} type {kind!r} is not known: expected {', '.join(names)}")
    try:
        return getattr(module, names[kind])(**settings)
    except (TypeError, ValueError, NotImplementedError) as error:
        # Its message may repeat what was given, and that may be a secret.
        given = ", ".join(sorted(settings)) or "nothing"
        raise ConfigurationError(
            f"{what} {kind!r} cannot be made of the settings {given}: see the parameters of {names[kind]} in dlt's documentation"
        ) from (error if what == "paginator" else None)
    except Exception as error:
        if type(error).__module__.startswith("jsonpath_ng"):
            raise ConfigurationError(f"{what} {kind!r} has a path that is no JSONPath: {error}") from error
        raise


def _import(name: str) -> ModuleType:
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    try:
        from importlib import import_module

        return import_module(f"dlt.sources.helpers.rest_client.{name}")
    except ImportError as error:
        raise ConfigurationError(
            "source 'rest' needs dlt, which is not installed: pip install 'sequin-pipeline[rest]'"
        ) from error
