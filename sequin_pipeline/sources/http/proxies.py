"""This module looks at the proxies that the environment names, and says which of them can be used."""

import re
from urllib.parse import urlsplit
from urllib.request import getproxies

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources.http.endpoint import has_stray_at_sign

USABLE = ("http", "https")


def refuse_unusable_proxies() -> None:
    """Raises ConfigurationError for a proxy that speaks another protocol than HTTP, as a SOCKS proxy does.

    Its address is not shown, since it may hold a password.
    """
    for of, url in getproxies().items():
        if of not in (*USABLE, "all"):
            continue
        scheme = url.partition("://")[0].lower() if "://" in url else "http"
        if not _is_understood(url if "://" in url else f"http://{url}"):
            raise ConfigurationError(
                f"{of.upper()}_PROXY is not understood: expected a proxy as http://user:password@host:3128, in which a "
                "password's %, @, /, ?, # and : are written as %25, %40, %2F, %3F, %23 and %3A (its value is not "
                "shown, since it may hold a password)"
            )
        if scheme not in USABLE:
            raise ConfigurationError(
                f"{of.upper()}_PROXY names a proxy of the scheme {scheme!r}, and only proxies with http:// or https:// can be used: name "
                "such a one, or unset the variable"
            )


def _is_understood(url: str) -> bool:
    """Returns False where a character of a password ends it early, so that a host, a port or a scheme would hold its rest."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    is_scheme = re.fullmatch(r"[a-z][a-z0-9+.-]*", url.partition("://")[0], re.IGNORECASE)
    return is_scheme is not None and not has_stray_at_sign(url) and parts.netloc.count("@") < 2
