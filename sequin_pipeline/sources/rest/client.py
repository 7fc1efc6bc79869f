"""This client asks one API: requests as paginators want them, with the proof of who we are, and never to another origin."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from sequin_pipeline.errors import ConfigurationError, SourceFault
from sequin_pipeline.reads import Read, RestApi, Setting, Variable, variables_in
from sequin_pipeline.sources.http.client import Answer, HttpClient, HttpOptions, Request, Response
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.http.pace import Pace
from sequin_pipeline.sources.rest.dlt_parts import NextRequest
from sequin_pipeline.sources.rest.limits import LimitGate
from sequin_pipeline.sources.rest.login import Login

Value = TypeVar("Value")
Environment = Mapping[str, str]

EXCERPT_BYTES = 4096
"""A secret is found in the part of a body that may be shown, and is not cut where that ends."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


def value_of(setting: Setting, environment: Environment) -> str:
    """Returns a setting's value."""
    return setting.value(environment) if isinstance(setting, Variable) else setting


def variables_of(api: RestApi) -> tuple[str, ...]:
    """Returns the names of all variables that the declaration wants, but for those that have a default."""
    return tuple(dict.fromkeys(variables_in([api.base_url, api.auth or {}, api.headers, *map(_settings_of, api.reads.values())])))


def optional_variables_of(api: RestApi) -> tuple[str, ...]:
    """Returns the names of those that have a default; addresses alone may have one."""
    return (api.base_url.name,) if isinstance(api.base_url, Variable) and api.base_url.default is not None else ()


def _settings_of(read: Read) -> list[object]:
    changes = [] if read.changes is None else [read.changes.params, read.changes.json or {}]
    return [read.each, read.params, read.json or {}, *changes]


class RestClientFactory:
    """This opens clients of one API, which share its login and what is known of its limits."""

    def __init__(self, api: RestApi, environment: Environment, options: HttpOptions) -> None:
        """Raises ConfigurationError for an address or a proof that cannot be used."""
        held = [setting.name for setting in (api.auth or {}).values() if isinstance(setting, Variable)]
        self._variables = " and ".join(held) or "`auth`"
        url_variable = api.base_url.name if isinstance(api.base_url, Variable) else "`base_url`"
        self.endpoint = Endpoint(
            value_of(api.base_url, environment).strip(), url_variable=url_variable, token_variable=self._variables
        )
        settings = None if api.auth is None else {name: value_of(value, environment) for name, value in api.auth.items()}
        self._login = Login(settings, base_url=self.base_url, variables=self._variables, options=options)
        self._headers = {name: value_of(value, environment) for name, value in api.headers.items()}
        held_in_requests = variables_in([api.headers, *(_settings_of(replace(read, each={})) for read in api.reads.values())])
        self._secrets = [environment[name].strip() for name in held_in_requests]
        for name, value in self._headers.items():
            if not (value.isascii() and value.isprintable()):
                raise ConfigurationError(f"header {name!r} cannot be sent: its value must be printable ASCII")
        speed = api.rate_limit.requests_per_second
        self._pace = Pace(speed, sleep=options.sleep) if speed else None
        self._gate = LimitGate(api.rate_limit, what=self.base_url, clock=options.clock)
        self._options = options

    @property
    def base_url(self) -> str:
        return self.endpoint.base_url

    def limits_told(self) -> str:
        """Returns in words what the last answer told of how many requests are left."""
        return self._gate.told()

    def open(self) -> "RestClient":
        """Opens a client, which has sent nothing yet."""
        endpoint = replace(self.endpoint, secrets=(*self._login.secrets, *self._secrets))
        http = HttpClient(endpoint, self._options, headers=self._headers, pace=self._pace, gate=self._gate)
        return RestClient(http, self._login, self.base_url)


class RestClient:
    """A client keeps connections to the API until it is closed; it serves one thread at a time."""

    def __init__(self, http: HttpClient, login: Login, base_url: str) -> None:
        self._http = http
        self._login = login
        self.base_url = base_url
        self._origin = origin_of(base_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def ask(self, request: NextRequest, *, purpose: str, read: Callable[[Response], Value]) -> Answer[Value]:
        """Sends a request as it stands; raises SourceError, for another origin before anything is sent."""
        self.check_origin(request.url, purpose)
        try:
            return self._send(request, purpose=purpose, read=read)
        except StatusRefused as refused:
            if refused.status != HTTPStatus.UNAUTHORIZED or not self._login.can_renew:
                raise
            # Tokens end before their time where somebody revokes them, and by clocks that differ.
            self._login.forget()
        return self._send(request, purpose=purpose, read=read)

    def excerpt(self, body: bytes) -> str:
        """Returns the beginning of an answer, quoted and without secrets."""
        return self._http.excerpt(body[:EXCERPT_BYTES].decode(errors="replace"))

    def check_origin(self, url: str, purpose: str) -> None:
        """Raises SourceFault for an address elsewhere: it would get the key."""
        try:
            origin = origin_of(url)
        except ValueError:
            origin = ("", "", 0)
        if origin != self._origin:
            raise SourceFault(
                f"{purpose} from {self.base_url}: the next page is to be asked of {_shown(origin)}, which is not the declared address and "
                "would get the key: nothing was sent there. Check `base_url`"
            )

    def _send(self, request: NextRequest, *, purpose: str, read: Callable[[Response], Value]) -> Answer[Value]:
        proof = self._login.proof()
        self._http.mask(self._login.secrets)
        params = [(name, text) for name, value in (request.params or {}).items() for text in _texts(value)]
        return self._http.ask(
            Request(
                request.method,
                request.url,
                (*params, *proof.params.items()),
                None if request.json is None else msgspec.json.encode(request.json),
                proof.headers,
            ),
            purpose=purpose,
            read=read,
        )


def origin_of(url: str) -> tuple[str, str, int]:
    """Returns scheme, host and port; raises ValueError for what has none."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme.lower(), 0)


def _shown(origin: tuple[str, str, int]) -> str:
    scheme, host, port = origin
    return repr(f"{scheme}://{host}:{port}") if host else "an address that cannot be read"


def _texts(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for inner in value for text in _texts(inner)]
    if value is None:
        return []
    return [str(value).lower() if isinstance(value, bool) else str(value)]
