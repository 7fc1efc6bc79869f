"""This module says where a source answers and with which token: checked before anything is sent, safe to print.

Every message that quotes a server's text gets it from `Endpoint.excerpt`, so that a token which a server echoes goes no further.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources.spellings import masked

EXCERPT_CHARACTERS = 80


@dataclass(frozen=True)
class Endpoint:
    """An endpoint is an address and what proves who we are; the variables are the ones that a message tells people to fix.

    `secrets` are further values that nobody may see: what proves who we are where that is not a bearer token.
    """

    base_url: str
    token: str | None = field(default=None, repr=False)
    url_variable: str = "SEQUIN_API_URL"
    token_variable: str = "SEQUIN_API_TOKEN"  # noqa: S105 - the name of a variable, not a token
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _normalized(self.base_url, self))
        if self.token is not None and not (
            self.token.isascii() and self.token.isprintable() and self.token.strip() == self.token
        ):
            raise ConfigurationError(
                f"the token in {self.token_variable} cannot be sent in a header: "
                "it must be printable ASCII without space around it; look for a line break at its end"
            )

    @property
    def is_loopback(self) -> bool:
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def is_encrypted(self) -> bool:
        return self.base_url.startswith("https:")

    @property
    def has_proof(self) -> bool:
        return bool(self.token or self.secrets)

    def excerpt(self, text: str) -> str:
        """Returns the beginning of a server's text, quoted, on one line and without the token and the secrets, which a server may echo."""
        line = " ".join(masked(text, {self.token or "", *self.secrets}).split())
        return repr(line[:EXCERPT_CHARACTERS] + ("…" if len(line) > EXCERPT_CHARACTERS else ""))


def has_stray_at_sign(url: str) -> bool:
    """Says whether an `@` stands after the authority, as where a password holds a `/`, `?` or `#`: its rest is no path then."""
    rest = url.partition("://")[2]
    return "@" in rest[len(re.split("[/?#]", rest, maxsplit=1)[0]) :]


def _normalized(url: str, endpoint: Endpoint) -> str:
    """Returns the address with scheme and host in lower case, no default port and no trailing slash: one address has one
    spelling."""
    if has_stray_at_sign(url):
        raise ConfigurationError(
            f"{endpoint.url_variable} is not a usable address: an @ stands behind the host, as where credentials hold a /, ? or #. Take "
            f"credentials out of the address and set {endpoint.token_variable}; write an @ of the path as %40"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or any(character.isspace() for character in url):
        raise ConfigurationError(
            f"{endpoint.url_variable} is not a usable address: "
            "write http:// or https://, a host, and a path if the API is served below one, as in https://api.sequin.io"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"{endpoint.url_variable} holds credentials for host {host!r}, which would end up in logs and ledgers: "
            f"take them out of the address and set {endpoint.token_variable}"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"{endpoint.url_variable} for host {host!r} has a query or a fragment, which a base address cannot have: take it out"
        )
    name = f"[{host}]" if ":" in host else host
    default_port = {"http": 80, "https": 443}[parts.scheme]
    suffix = "" if port in (None, default_port) else f":{port}"
    return f"{parts.scheme}://{name}{suffix}{parts.path.rstrip('/')}"
