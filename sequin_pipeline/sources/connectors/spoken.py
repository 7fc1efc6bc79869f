"""This module holds what is common to both protocols: a stream's shape, what was heard of it, and remarks about what else was said."""

import logging
import re
from dataclasses import dataclass, field

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.reads import JsonPath
from sequin_pipeline.records import json_text
from sequin_pipeline.sources.connectors.masking import Mask

LOGGER = logging.getLogger("sequin_pipeline.sources")

SHOWN_BYTES = 300
"""A message or a log shows this much of one line of a connector."""

MAX_WARNINGS = 20
"""The log shows this many of one read: a connector may warn of each record."""


@dataclass(frozen=True)
class StreamShape:
    """This value is what a connector's catalog says of a stream.

    `key` tells its records apart, `version` grows with each change; None where the catalog does not say. `entry` is the catalog's own
    JSON of the stream, `fields` the names and types of its top-level keys.
    """

    name: str
    key: tuple[JsonPath, ...] | None
    version: JsonPath | None
    deleted: JsonPath | None
    entry: dict[str, object] = field(repr=False)
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Heard:
    """This value is what one piece of output held.

    `records` are objects in their order. `state` is the last one that is known to be safe: every record before it is among these or was
    among earlier ones.
    """

    records: list[bytes] = field(repr=False)
    state: bytes | None = field(default=None, repr=False)


class Remarks:
    """This object counts what a connector said beside its records, and shows little of it, masked."""

    def __init__(self, connector: str, mask: Mask) -> None:
        self._connector, self.mask = connector, mask
        self._noise = 0
        self._first_noise = ""
        self._others = 0
        self._warnings = 0
        self._noted: dict[str, None] = {}

    def noise(self, line: bytes) -> None:
        """Counts a line that is no message."""
        if not line.strip():
            return
        if not self._noise:
            self._first_noise = self.mask.of_bytes(line.strip(), SHOWN_BYTES)
            LOGGER.warning("the connector %s wrote a line that is no message: %r", self._connector, self._first_noise)
        self._noise += 1

    def of_others(self) -> None:
        """Counts a message of a stream that was not asked for."""
        self._others += 1

    def note(self, sentence: str) -> None:
        """Remembers a sentence, once."""
        if sentence not in self._noted:
            LOGGER.warning("the connector %s: %s", self._connector, self.mask(sentence))
        self._noted[self.mask(sentence)] = None

    def log(self, level: str, text: str) -> None:
        """Hands over a line of the connector's log: warnings and worse as warnings, as many as are read by anybody."""
        shown = self.mask.of_bytes(text.encode(errors="replace"), SHOWN_BYTES)
        is_bad = level in ("FATAL", "ERROR", "WARN", "WARNING", "CRITICAL")
        self._warnings += is_bad
        at = logging.WARNING if is_bad and self._warnings <= MAX_WARNINGS else logging.DEBUG
        LOGGER.log(at, "the connector %s says: %s", self._connector, shown)

    def notes(self) -> tuple[str, ...]:
        """Returns sentences for the run's metadata."""
        found = list(self._noted)
        if self._noise:
            lines = "a line that is no message" if self._noise == 1 else f"{self._noise:,} lines that are no messages, the first"
            found.append(f"the connector {self._connector} wrote {lines}: {self._first_noise!r}")
        if self._others:
            found.append(f"the connector {self._connector} sent {self._others:,} messages of streams that were not asked for")
        return tuple(found)


def salvaged(line: bytes, told_by: re.Pattern[bytes], way: tuple[str, ...], connector: str) -> bytes | None:
    """Returns the object of a record whose line is no valid JSON, so that it becomes a reject; None for a line that is no message.

    `told_by` is found in every line that matters, and `way` leads to the object. Raises SourceFault for a line that seems to matter and
    cannot be taken apart: passing over it would lose a record.
    """
    found = told_by.search(line)
    if found is None:
        return None
    try:
        value = line
        for name in way:
            value = json_text.members(value)[name]
    except (ValueError, KeyError):
        raise SourceFault(
            f"the connector {connector!r} wrote a line that holds a {found[1].decode()} message, but is none: it is cut, or something else "
            f"writes to its standard output; {len(line):,} bytes"
        ) from None
    return value


def type_in_words(schema: object) -> str:
    """Returns the type of a JSON schema as a catalog writes it: `string (date-time)`, `integer or null`."""
    if not isinstance(schema, dict):
        return ""
    kinds = schema.get("type", "")
    text = " or ".join(str(kind) for kind in kinds) if isinstance(kinds, list) else str(kinds)
    return f"{text} ({schema['format']})" if schema.get("format") else text
