"""This module brings URLs of Postgres to one form, and shows them without the secrets in them."""

import re

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.libpq import unknown_parameters, unwrapped, wrapped

_SCHEME = re.compile(r"postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_USERINFO = re.compile(r"(?P<scheme>[a-z][\w+.-]*://)(?P<userinfo>.*)@", re.IGNORECASE | re.DOTALL)
_SECRET_OPTION = re.compile(r"([?&][^=&]*(?:pass|token|secret|key)[^=&]*=)[^&]*", re.IGNORECASE)


def plain_postgres_url(url: str, variable: str) -> str:
    """Returns the URL as libpq takes it: any of the schemes that other programs use becomes `postgresql://`.

    `variable` is where the user wrote it, for the message of the ConfigurationError.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ConfigurationError(
            f"{variable} should be a URL as in postgresql://user:password@host:5432/database, but does not begin with "
            "postgresql:// (its value is not shown, since it may hold a password)"
        )
    plain = unwrapped("postgresql://" + url[scheme.end() :])
    refuse_unescaped(plain, variable)
    if not _has_sound_ports(plain):
        raise ConfigurationError(
            f"{variable} names a port that is not a number from 1 to 65535: write it as in postgresql://user:password@host:5432/database"
        )
    refuse_unknown_parameters(plain, variable)
    return plain


def refuse_unescaped(url: str, variable: str) -> None:
    """Raises ConfigurationError where a character of the password ends it early, so that its rest would be taken for a host."""
    if "://" in url and not _is_escaped(url):
        raise ConfigurationError(not_understood(variable))


def not_understood(variable: str) -> str:
    """Returns what to say of a URL that cannot be read, without showing any of it."""
    return (
        f"{variable} is not understood: expected a libpq URL as postgresql://user:password@host:5432/database, in which a "
        "password's %, @, /, ?, # and : are written as %25, %40, %2F, %3F, %23 and %3A (its value is not "
        "shown, since it may hold a password)"
    )


def refuse_unknown_parameters(url: str, variable: str) -> None:
    """Raises ConfigurationError for parameters that libpq does not know, as URLs of other programs have them."""
    unknown = unknown_parameters(url)
    if unknown:
        raise ConfigurationError(
            f"{variable} has parameters that Postgres' own library does not know, as those of another program's URL (Prisma's schema, "
            f"connection_limit or pgbouncer): {', '.join(map(repr, unknown))}. Leave them out; a table's schema stands in its defs.yaml"
        )


def _is_escaped(url: str) -> bool:
    head, _, query = url.partition("://")[2].partition("?")
    authority, slash, path = head.partition("/")
    if authority.count("@") > 1 or "@" in path or "#" in head:
        return False
    # An "@" in the query belongs to a parameter, unless the "?" was part of a password.
    is_a_query = "@" in authority or bool(slash) or ":" not in authority
    return "@" not in query or (is_a_query and not unknown_parameters(url))


def _has_sound_ports(url: str) -> bool:
    """Returns False where a host's port is not a number, which libpq would take for a server that is down."""
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    hosts = authority.rpartition("@")[2].split(",")
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
    return all(not port or (port.isascii() and port.isdigit() and 0 < int(port) < 65_536) for port in ports)


def psycopg2_url(url: str) -> str:
    """Returns the URL for SQLAlchemy, naming the only driver that Dagster's storage works with.

    Since SQLAlchemy 2.1 a bare `postgresql://` means psycopg 3, which its NOTIFY statements do not survive.
    """
    return "postgresql+psycopg2://" + wrapped(plain_postgres_url(url, "the URL")).partition("://")[2]


def mask_url(url: str) -> str:
    """Returns a URL to show to people: without password or options that sound like one, and outside of Postgres without user.

    A token may stand in the user's place. It takes any text, and rather shows too little: an `@` or `/` that should have been escaped
    in a password must not let the rest of it out.
    """
    if "://" not in url:
        return "***"
    shown = _USERINFO.sub(_mask_userinfo, url)
    return _SECRET_OPTION.sub(r"\1***", shown)


def _mask_userinfo(found: re.Match[str]) -> str:
    user, colon, _ = found["userinfo"].partition(":")
    if not _SCHEME.fullmatch(found["scheme"]) or set(user) & set("/?#@"):
        return f"{found['scheme']}***@"
    return f"{found['scheme']}{user}{':***' if colon else ''}@"
