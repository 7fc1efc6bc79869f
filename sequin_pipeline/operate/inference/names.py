"""This module names columns for fields: snake_case, none of the record's own, no two the same."""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from sequin_pipeline.catalog import MAX_IDENTIFIER_BYTES
from sequin_pipeline.declare.parse_columns import SYSTEM_COLUMNS
from sequin_pipeline.records.fields import RECORD_COLUMNS

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER = re.compile(r"[^A-Za-z0-9]+")
_COUNT_CHARACTERS = 4


def snake_case(text: str) -> str:
    """Turns `currentPeriodEnd` or `Current period-end` into `current_period_end`; letters without an ASCII form are left out."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = _OTHER.sub("_", _HUMP.sub("_", plain)).strip("_").lower()
    return words if words[:1].isalpha() else f"n_{words}".rstrip("_")


def column_names(
    provider: str, fields: Iterable[tuple[str, ...]], *, reserved: Iterable[str] = RECORD_COLUMNS
) -> Mapping[tuple[str, ...], str]:
    """Returns, by steps, a name that declare/parse.py accepts; `<provider>_` stands before one that every table has."""
    of_table = {*reserved, *SYSTEM_COLUMNS}
    taken = set(of_table)
    chosen: dict[tuple[str, ...], str] = {}
    for steps in fields:
        name = snake_case("_".join(steps))
        if name in taken and steps not in chosen and name in of_table:
            name = f"{snake_case(provider)}_{name}"
        name = name[: MAX_IDENTIFIER_BYTES - _COUNT_CHARACTERS]
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        chosen[steps] = candidate
    return chosen
