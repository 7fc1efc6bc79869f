"""This module turns names of Postgres into names of programs: camelCase, PascalCase, and no two the same."""

import re
from collections.abc import Iterable, Mapping

_WORDS = re.compile(r"[A-Za-z0-9]+")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9]*")


def camel_case(name: str) -> str:
    """Turns `current_period_end` into `currentPeriodEnd`; capitals within a word stay."""
    pascal = pascal_case(name)
    return pascal[:1].lower() + pascal[1:]


def pascal_case(name: str) -> str:
    """Turns `current_period_end` into `CurrentPeriodEnd`; a name without a letter at its start gets one."""
    joined = "".join(word[:1].upper() + word[1:] for word in _WORDS.findall(name))
    return joined if _IDENTIFIER.fullmatch(joined) else f"N{joined}"


def distinct(proposals: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Returns, by original name, the proposed one, with a number behind it where an earlier original has taken it."""
    taken: set[str] = set()
    chosen: dict[str, str] = {}
    for original, proposal in proposals:
        name, number = proposal, 2
        while name in taken:
            name, number = f"{proposal}{number}", number + 1
        taken.add(name)
        chosen[original] = name
    return chosen
