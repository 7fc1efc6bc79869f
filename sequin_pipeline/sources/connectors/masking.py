"""This module takes declared secrets out of whatever a connector says."""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "***"


class Mask:
    """A mask replaces each secret, also as JSON, Python and a URL write it, and each line of one that has several."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        # The longest first: one secret can be the beginning of another.
        ordered = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self.longest = len(ordered[0].encode()) if ordered else 0

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text

    def of_bytes(self, raw: bytes, most_bytes: int) -> str:
        """Returns the text of at most so many bytes; a secret at which the text would be cut is not shown in part."""
        text = self(raw[: most_bytes + self.longest].decode(errors="replace"))
        # What moves a terminal's cursor, or begins a line of the log, is not theirs to say.
        text = "".join(character if character.isprintable() else " " for character in text)
        if len(raw) <= most_bytes:
            return text
        shown = text[: max(0, min(most_bytes, len(text) - self.longest))]
        return f"{shown}… ({len(raw):,} bytes)"


def _spellings(secret: str) -> set[str]:
    whole = secret.strip()
    parts = {whole, secret, *(line.strip() for line in whole.splitlines())}
    found: set[str] = set()
    for part in parts:
        found |= {part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], repr(part)[1:-1]}
        found |= {quote(part), quote(part, safe=""), quote_plus(part)}
    # A line of a few characters stands in every text.
    return {one for one in found if one and (one in (whole, secret) or len(one) >= len(whole) or len(one) > 3)}
