"""This module says what libpq takes from its environment, and names our own server so that nothing of it is taken.

For every parameter that a URL does not name, libpq looks into the environment (PGHOSTADDR, PGOPTIONS, PGREQUIREAUTH, …) and into the
service that PGSERVICE names. For a user's own URL that is the rule. The URL of the embedded server says `hostaddr=`, which nobody else
has a reason to write: such a URL is *closed*, and named by every parameter that its library knows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, quote, unquote

import psycopg
from psycopg import conninfo, pq

UNNAMED_VARIABLES = ("PGSERVICE", "PGDATESTYLE", "PGTZ", "PGGEQO")
"""No parameter stands against these: a missing service ends every connection, and the others are sent as settings.

Of a service that is there nothing is taken, since all that it may say is named.
"""

_CLOSED: tuple[tuple[str, str, int], ...] = (
    ("hostaddr", "", 0),
    ("options", "", 0),
    ("replication", "", 0),
    ("client_encoding", "UTF8", 0),
    ("passfile", "", 0),
    ("sslmode", "disable", 0),
    ("sslrootcert", "", 0),
    ("requirepeer", "", 0),
    ("target_session_attrs", "any", 0),
    ("connect_timeout", "30", 0),
    ("gssencmode", "disable", 12),
    ("channel_binding", "prefer", 13),
    ("ssl_min_protocol_version", "", 13),
    ("ssl_max_protocol_version", "", 13),
    ("require_auth", "", 16),
    ("sslcertmode", "disable", 16),
    ("load_balance_hosts", "disable", 16),
    ("sslnegotiation", "postgres", 17),
    ("min_protocol_version", "3.0", 18),
    ("max_protocol_version", "3.0", 18),
)
"""These are parameters, their values and the first version of libpq that knows each.

A library refuses those that it does not know.
"""

_PLACE = ("user", "dbname", "host", "port", "hostaddr")

_WRAPPED = "/?dsn="


def closing_parameters(url: str, major: int) -> dict[str, str]:
    """Returns what a libpq of this major version must be told beside a closed URL; nothing for any other.

    Raises psycopg.ProgrammingError for what is not a URL.
    """
    if conninfo.conninfo_to_dict(url).get("hostaddr") != "":
        return {}
    return {name: value for name, value, since in _CLOSED if major >= since}


def wrapped(url: str) -> str:
    """Returns a closed URL for SQLAlchemy and psycopg2, within which every parameter is named; any other URL is left as it is.

    SQLAlchemy drops empty parameters of its own URL.
    """
    addition = _addition(url)
    return f"postgresql://{_WRAPPED}{quote(url + addition, safe='')}" if addition else url


def unwrapped(url: str) -> str:
    """Returns the URL that `wrapped` was given; any other is left as it is."""
    rest = url.partition("://")[2]
    if not rest.startswith(_WRAPPED):
        return url
    inner = unquote(rest.removeprefix(_WRAPPED))
    base, closing, _ = inner.partition("hostaddr=&")
    return inner.removesuffix(_addition(f"{base}hostaddr=")) if closing else inner


def _addition(url: str) -> str:
    import psycopg2.extensions  # a library of Dagster's storage, which nobody else needs

    named = closing_parameters(url, psycopg2.extensions.libpq_version() // 10_000)
    return "".join(f"&{name}={quote(value, safe='')}" for name, value in named.items() if name != "hostaddr")


def is_same_place(url: str, other: str) -> bool:
    """Says whether both name one user, database and server, whatever else they say."""
    try:
        mine, theirs = conninfo.conninfo_to_dict(url), conninfo.conninfo_to_dict(other)
    except psycopg.ProgrammingError:
        return False
    return all((mine.get(name) or None) == (theirs.get(name) or None) for name in _PLACE)


def unknown_parameters(url: str) -> list[str]:
    """Returns the names in the query of a URL that libpq does not know, in their order."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    query = url.partition("?")[2]
    return [name for name in dict.fromkeys(name for name, _ in parse_qsl(query, keep_blank_values=True)) if name not in known]


def closed_conninfo(url: str, **parameters: str) -> str:
    """Returns the URL with these parameters, and a closed one with every other that psycopg's libpq knows.

    Raises psycopg.ProgrammingError for what is not a URL.
    """
    return conninfo.make_conninfo(url, **{**closing_parameters(url, pq.version() // 10_000), **parameters})


@contextmanager
def alone(*, beside: str = "") -> Iterator[None]:
    """Connects without what no parameter stands against, but for the variable `beside`; for a process that does nothing else meanwhile."""
    hidden = [name for name in UNNAMED_VARIABLES if name != beside and name in os.environ]
    kept = {name: os.environ.pop(name) for name in hidden}
    try:
        yield
    finally:
        os.environ.update(kept)


def forget_what_breaks(url: str) -> None:
    """Takes from this process's environment what would break connections to the server that a closed URL names, which must be running.

    The rest is left, for a program's connections to other servers. PGTZ always goes: Dagster stores times without a zone, and they are
    those of the session.
    """
    os.environ.pop("PGTZ", None)
    for name in UNNAMED_VARIABLES:
        if name in os.environ and not _connects(url, beside=name):
            del os.environ[name]


def _connects(url: str, *, beside: str) -> bool:
    """Asks both libraries: that of psycopg2 is often an older one, which does not know all that a service file may say."""
    import psycopg2

    with alone(beside=beside):
        connection = pq.PGconn.connect(closed_conninfo(url).encode())
        is_connected = connection.status == pq.ConnStatus.OK
        connection.finish()
        if not is_connected:
            return False
        try:
            psycopg2.connect(url + _addition(url)).close()
        except psycopg2.Error:
            return False
    return True
