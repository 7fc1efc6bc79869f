"""This module takes declared secrets out of whatever a connector says."""

from collections.abc import Iterable

from sequin_pipeline.sources.spellings import MASK, MOST_BYTES, pattern_of


class Mask:
    """A mask replaces each secret in every spelling, and each line of one that has several."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        self._pattern = pattern_of(frozenset(spellings))
        self.longest = MOST_BYTES * max((len(spelling.encode()) for spelling in spellings), default=0)

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text

    def of_bytes(self, raw: bytes, most_bytes: int) -> str:
        """Returns the text of at most so many bytes; a secret at which the text would be cut is not shown in part."""
        text = self(raw[: most_bytes + self.longest].decode(errors="replace"))
        # What moves a terminal's cursor, or begins a line of the log, is not theirs to say.
        text = "".join(character if character.isprintable() else " " for character in text)
        if len(raw) <= most_bytes:
            return text
        is_cut = len(raw) > most_bytes + self.longest
        shown = text[: max(0, min(most_bytes, len(text) - self.longest))] if is_cut else text[:most_bytes]
        return f"{shown}… ({len(raw):,} bytes)"


def _spellings(secret: str) -> set[str]:
    whole = secret.strip()
    parts = {whole, secret, *(line.strip() for line in whole.splitlines())}
    # A line of a few characters stands in every text.
    return {one for one in parts if one and (one in (whole, secret) or len(one) >= len(whole) or len(one) > 3)}
