"""This module finds a secret in a text however the text writes it: in JSON of any encoder, in an address, in HTML, in a quoted string."""

import re
from collections.abc import Iterable
from functools import lru_cache

MASK = "***"

MOST_BYTES = 6
"""One byte of a secret takes at most this many in the usual spellings (as in JSON's escapes of ASCII)."""

_IN_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;|&#34;", "'": "&#39;|&#x27;"}
_SHORT = {" ": r"\+", "\n": r"\\{1,4}n", "\r": r"\\{1,4}r", "\t": r"\\{1,4}t"}


@lru_cache(maxsize=64)
def pattern_of(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Returns what matches each of the secrets in all its spellings, also mixed ones; None where there is none.

    The longest comes first: one secret can be the beginning of another.
    """
    ordered = sorted(secrets - {""}, key=lambda secret: (-len(secret), secret))
    return re.compile("|".join("".join(map(_spelled, secret)) for secret in ordered)) if ordered else None


def masked(text: str, secrets: Iterable[str]) -> str:
    """Returns the text without the secrets."""
    pattern = pattern_of(frozenset(secrets))
    return text if pattern is None else pattern.sub(MASK, text)


def _spelled(character: str) -> str:
    r"""Returns a pattern for one character: some encoders escape a slash (PHP), others `&`, `<` and `>` (Go), and addresses differ too."""
    if character.isascii() and character.isalnum():
        return character
    if character == "\\":
        return r"(?:(?:\\|%(?:25)*5[Cc]){1,8})"
    units = character.encode("utf-16-be").hex()
    others = [
        "".join(_any_case(rf"\\{{1,4}}u{units[at : at + 4]}") for at in range(0, len(units), 4)),
        "".join(_any_case(f"%(?:25)*{byte:02x}") for byte in character.encode("utf-8", "surrogatepass")),
        _IN_HTML.get(character, ""),
        _SHORT.get(character, ""),
    ]
    return "|".join([rf"(?:\\{{0,4}}{re.escape(character)}", *filter(None, others)]) + ")"


def _any_case(pattern: str) -> str:
    return f"(?i:{pattern})"
