"""A fault is a text that says which request goes wrong and how, as `status:503,at=2` or `cut:120,every=5,collection=stripe:customer`.

    KIND[:VALUE][,at=N | ,every=N | ,first=K | ,from=N][,path=TEXT][,collection=ID][,retry-after=SECONDS | ,retry-after-date=SECONDS]

Each fault counts the requests under `/v1/` that it applies to, from 1; without `at`, `every`, `first` or `from` it strikes every one. How
a fault is carried out is in damage.py and pages.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.pages import PageFault

AnswerFault = Literal["status"]
ContentFault = Literal["html", "json-cut", "not-object", "other-object", "empty-body", "broken-gzip"]
WireFault = Literal["cut", "reset-before", "reset-in-body", "slow", "wrong-length"]

ANSWER_FAULTS: frozenset[str] = frozenset(get_args(AnswerFault))
PAGE_FAULTS: frozenset[str] = frozenset(get_args(PageFault))
CONTENT_FAULTS: frozenset[str] = frozenset(get_args(ContentFault))
WIRE_FAULTS: frozenset[str] = frozenset(get_args(WireFault))
KINDS = ANSWER_FAULTS | PAGE_FAULTS | CONTENT_FAULTS | WIRE_FAULTS

DEFAULT_VALUES: Mapping[str, int] = {"cut": 100, "reset-in-body": 100, "slow": 1000, "wrong-length": 10}
"""These are bytes of the body that are sent, milliseconds that it takes, and bytes that the header promises too many.

A reset throws away what the sockets have not taken yet: of more than some 50 kB less may arrive.
"""

_OCCASIONS = ("at", "every", "first", "from")
_NUMBERS = (*_OCCASIONS, "retry-after", "retry-after-date")
_TEXTS = ("path", "collection")


@dataclass(frozen=True)
class Fault:
    """A fault says what goes wrong and when it strikes; `text` is how it was asked for."""

    text: str
    kind: str
    value: int
    at: int | None = None
    every: int | None = None
    first: int | None = None
    since: int | None = None
    path: str | None = None
    collection: str | None = None
    retry_after: int | None = None
    retry_after_date: int | None = None

    def applies_to(self, path: str, collection_id: str | None) -> bool:
        return (self.path is None or self.path in path) and self.collection in (None, collection_id)

    def strikes(self, number: int) -> bool:
        if self.at is not None:
            return number == self.at
        if self.every is not None:
            return number % self.every == 0
        if self.since is not None:
            return number >= self.since
        return self.first is None or number <= self.first


def parse_fault(text: str) -> Fault:
    """Parses a fault; raises ConfigurationError that names the part which is not understood."""
    head, *conditions = text.split(",")
    kind, _, value_text = head.partition(":")
    if kind not in KINDS:
        raise _not_understood(text, f"{kind!r} is none of {', '.join(sorted(KINDS))}")
    if value_text and kind not in DEFAULT_VALUES and kind != "status":
        raise _not_understood(text, f"{kind!r} takes no value")
    value = _number(text, value_text) if value_text else DEFAULT_VALUES.get(kind, 0)
    if kind == "status" and not 200 <= value <= 599:
        raise _not_understood(text, "a status is a number from 200 to 599, as in status:503")
    numbers: dict[str, int] = {}
    texts: dict[str, str] = {}
    for condition in conditions:
        name, _, operand = condition.partition("=")
        if name in _TEXTS and operand:
            texts[name] = operand
        elif name in _NUMBERS:
            numbers[name] = _number(text, operand)
        else:
            raise _not_understood(text, f"{condition!r} is none of {', '.join((*_NUMBERS, *_TEXTS))} with its value")
    occasions = [numbers[name] for name in _OCCASIONS if name in numbers]
    if len(occasions) > 1 or 0 in occasions:
        raise _not_understood(text, "say one of at, every, first and from, counted from 1")
    return Fault(
        text,
        kind,
        value,
        at=numbers.get("at"),
        every=numbers.get("every"),
        first=numbers.get("first"),
        since=numbers.get("from"),
        path=texts.get("path"),
        collection=texts.get("collection"),
        retry_after=numbers.get("retry-after"),
        retry_after_date=numbers.get("retry-after-date"),
    )


def _number(text: str, operand: str) -> int:
    try:
        return int(operand)
    except ValueError as error:
        raise _not_understood(text, f"{operand!r} is no whole number") from error


def _not_understood(text: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the sandbox does not understand the fault {text!r}: {reason}. One that it knows is 'status:503,at=2'."
    )


class FaultSchedule:
    """These faults count requests, so that the same requests meet the same faults."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.replace(texts)

    def replace(self, texts: Iterable[str]) -> None:
        """Replaces the faults, counted anew; raises ConfigurationError, and keeps the former ones then."""
        self._faults = tuple(parse_fault(text) for text in texts)
        self._counts: dict[str, int] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(fault.text for fault in self._faults)

    def strike(self, path: str, collection_id: str | None, *, asked: Iterable[str] = ()) -> Fault | None:
        """Returns the fault that this request meets: the first to strike of ours and of those that the request asks for itself.

        Raises ConfigurationError for one that is not understood.
        """
        struck: Fault | None = None
        for fault in (*self._faults, *(parse_fault(text) for text in asked)):
            if fault.applies_to(path, collection_id):
                self._counts[fault.text] = number = self._counts.get(fault.text, 0) + 1
                if struck is None and fault.strikes(number):
                    struck = fault
        return struck
