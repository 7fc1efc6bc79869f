"""This module looks at the proxies that the environment names, and says which of them can be used."""

from urllib.request import getproxies

from sequin_pipeline.errors import ConfigurationError

USABLE = ("http", "https")


def refuse_unusable_proxies() -> None:
    """Raises ConfigurationError for a proxy that speaks another protocol than HTTP, as a SOCKS proxy does, without showing its address,
    which may hold a password."""
    for of, url in getproxies().items():
        scheme = url.partition("://")[0].lower() if "://" in url else "http"
        if of in (*USABLE, "all") and scheme not in USABLE:
            raise ConfigurationError(
                f"{of.upper()}_PROXY names a proxy of the scheme {scheme!r}, and only proxies with http:// or https:// can be used: name "
                "such a one, or unset the variable"
            )
