"""This module says what somebody may have meant by a name that there is not: what is spelled alike, or all that there is."""

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches

MOST = 3
"""More than this many names that look alike help nobody."""
MARGIN = 0.1
"""Names that share a long beginning, as collections of one provider do, all look alike: only those nearly as alike as the best count."""


def suggestion(word: str, there: Iterable[str], *, are: str = "there are") -> str:
    """Returns `did you mean …?` with the names that are spelled alike; where none is, all of them."""
    names = list(there)
    similar = _similar(word.lower(), {name.lower(): name for name in names})
    if similar:
        return f"did you mean {' or '.join(map(repr, similar))}?"
    return f"{are} {', '.join(names) or 'none'}"


def _similar(word: str, by_lower: Mapping[str, str]) -> list[str]:
    likeness = {name: SequenceMatcher(None, name, word).ratio() for name in get_close_matches(word, by_lower, n=MOST)}
    best = max(likeness.values(), default=0.0)
    return [by_lower[name] for name, ratio in likeness.items() if ratio >= best - MARGIN]
