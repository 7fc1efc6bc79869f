"""This module proves to an API who we are: headers and parameters of each request, from dlt's authentication objects.

A token for client credentials is asked for by our own client, kept until it expires, and asked for anew once when it is refused.
"""

from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources.http.client import HttpClient, HttpOptions, Request, Response
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.retries import AskAgain
from sequin_pipeline.sources.rest import dlt_parts

EXPIRES_EARLY_SECONDS = 30.0
"""This long before its end a token is no longer used: a request may be under way for some time."""

CLIENT_CREDENTIALS = "oauth2_client_credentials"


@dataclass(frozen=True)
class Proof:
    """This value is what is added to each request."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


class Login:
    """A login gives the proof for each request; the same for all reads of a source, one thread at a time."""

    def __init__(
        self,
        settings: Mapping[str, str] | None,
        *,
        base_url: str,
        variables: str,
        options: HttpOptions,
    ) -> None:
        """Takes `settings` with their values, and `variables`, the names of those that hold them, for messages."""
        self._base_url = base_url
        self._variables = variables
        self._options = options
        self._settings = {name: value for name, value in (settings or {}).items() if name != "type"}
        self.kind = None if settings is None else settings.get("type", "")
        self._proof: Proof | None = Proof() if settings is None else None
        self._expires_at = float("inf")
        for name, value in self._settings.items():
            if not value or value.strip() != value or not value.isprintable():
                raise ConfigurationError(
                    f"auth {name!r} ({variables}) cannot be sent: it must be printable, without space around it; look for a line break at "
                    "its end"
                )

    @property
    def secrets(self) -> tuple[str, ...]:
        """These are all forms in which something that nobody may see could come back in a server's text."""
        values = [value for name, value in self._settings.items() if name not in ("name", "location", "access_token_url")]
        known = [*values, *(quote(value, safe="") for value in values)]
        if self.kind == "http_basic":
            pair = f"{self._settings.get('username', '')}:{self._settings.get('password', '')}"
            known.append(b64encode(pair.encode()).decode())
        if self._proof is not None:
            known += [value.partition(" ")[2] or value for value in self._proof.headers.values()]
        return tuple(dict.fromkeys(known))

    @property
    def can_renew(self) -> bool:
        return self.kind == CLIENT_CREDENTIALS

    def forget(self) -> None:
        """Lets the next proof be asked for anew."""
        self._proof = None

    def proof(self) -> Proof:
        """Returns what is added to a request; asks for a token where there is none that is good. Raises SourceError."""
        if self._proof is None or self._options.clock() >= self._expires_at:
            self._proof = self._new_proof()
        return self._proof

    def _new_proof(self) -> Proof:
        kind = self.kind or ""
        auth = dlt_parts.authentication(kind, self._given())
        if kind == CLIENT_CREDENTIALS:
            self._obtain_token(auth)
        return Proof(*dlt_parts.added_to_requests(_Ready(auth), self._base_url))

    def _given(self) -> Mapping[str, object]:
        url = self._settings.get("access_token_url")
        if url is None or "://" in url:
            return self._settings
        return {**self._settings, "access_token_url": f"{self._base_url}/{url.lstrip('/')}"}

    def _obtain_token(self, auth: Any) -> None:  # Any: dlt's object
        asked = auth.build_access_token_request()
        parts = urlsplit(auth.access_token_url or "")
        endpoint = Endpoint(
            f"{parts.scheme}://{parts.netloc}",
            url_variable="access_token_url",
            token_variable=self._variables,
            secrets=self.secrets,
        )
        request = Request(
            "POST",
            parts.path or "/",
            content=urlencode(asked["data"]).encode(),
            headers={**asked["headers"], "accept": "application/json"},
        )
        with closing(HttpClient(endpoint, self._options)) as http:
            answer = http.ask(request, purpose="asking for an access token", read=_read_token).value
        auth.access_token = answer["access_token"]
        lasts_seconds = float(auth.parse_expiration_in_seconds(answer))
        self._expires_at = self._options.clock() + max(0.0, lasts_seconds - EXPIRES_EARLY_SECONDS)


class _Ready:
    """This authentication has its token already: dlt's own would ask for another one once its clock says so."""

    def __init__(self, auth: Any) -> None:  # Any: dlt's object
        self._auth = auth
        if hasattr(auth, "is_token_expired"):
            auth.is_token_expired = lambda: False

    def __call__(self, request: Any) -> Any:  # Any: of the library requests
        return self._auth(request)


def _read_token(response: Response) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(response.body)
        expires = answer.get("expires_in")
        is_usable = isinstance(answer["access_token"], str) and answer["access_token"] and (expires is None or int(expires) >= 0)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError):
        is_usable = False
    if not is_usable:
        raise AskAgain("an answer that is no JSON object with `access_token`", at_most=2)
    return {name: value for name, value in answer.items() if value is not None}
