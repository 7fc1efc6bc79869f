"""This module calls Singer taps: discovery and read, each a process of its own."""

import re
import threading
from collections.abc import Iterator

import msgspec

from sequin_pipeline.errors import SourceFault, SourceRefused
from sequin_pipeline.records.json_text import REFUSALS
from sequin_pipeline.sources.connectors.installed import InstalledConnector
from sequin_pipeline.sources.connectors.process import describe_status
from sequin_pipeline.sources.connectors.spoken import Heard, StreamShape, salvaged, type_in_words

DELETED_AT = "_sdc_deleted_at"
"""Taps tell deletions by this key."""

MATTERS = re.compile(rb'"type"\s*:\s*"(RECORD|STATE|SCHEMA|BATCH)"')

MAX_CATALOG_BYTES = 256 << 20

_NOTHING = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    type: str
    stream: str = ""
    record: msgspec.Raw = _NOTHING
    value: msgspec.Raw = _NOTHING


class _Metadata(msgspec.Struct):
    breadcrumb: list[str] = []
    metadata: dict[str, object] = {}


class _Stream(msgspec.Struct):
    tap_stream_id: str
    stream: str = ""
    schema: dict[str, object] = {}
    metadata: list[_Metadata] = []
    key_properties: list[str] | None = None
    replication_key: str | None = None
    replication_method: str | None = None


class _Catalog(msgspec.Struct):
    streams: list[dict[str, object]]


_decode = msgspec.json.Decoder(_Message).decode


class Singer:
    """This is a Singer tap.

    What it says of an error is its last lines, so that every failure is a SourceFault, after one more try.
    """

    kind = "singer"

    def __init__(self, installed: InstalledConnector) -> None:
        self.installed = installed
        self._entries: list[dict[str, object]] = []

    def streams(self, stop: threading.Event) -> dict[str, StreamShape]:
        """Returns the streams of the tap's catalog by `tap_stream_id`."""
        parts: list[bytes] = []
        status, tail = self.installed.ask(["--config", "{config}", "--discover"], parts.extend, stop)
        name = self.installed.name
        if status != 0:
            raise SourceFault(f"asking for the streams: the tap {name!r} {describe_status(status)}{tail}")
        text = b"\n".join(parts)
        try:
            # Some taps log on the standard output before the catalog, which is one JSON text over many lines.
            entries = msgspec.json.decode(text[max(0, text.find(b"{")) :], type=_Catalog).streams
            streams = [(entry, msgspec.convert(entry, _Stream, strict=False)) for entry in entries]
        except REFUSALS as error:
            told = self.installed.mask(str(error))
            raise SourceFault(
                f"asking for the streams: the tap {name!r} wrote no catalog that can be read: {told}{tail}"
            ) from None
        self._entries = entries
        return {stream.tap_stream_id: _shape(stream, entry) for entry, stream in streams}

    def read(self, shape: StreamShape, state: bytes | None, stop: threading.Event) -> Iterator[Heard]:
        """Yields what the stream has, from the state on; the last piece holds the state of the end.

        A tap that fails is started once more, from the last state that was handed on.
        """
        for attempt in (1, 2):
            reading = _Reading(shape, self.installed)
            for heard in self._attempt(reading, shape, state, stop):
                state = heard.state or state
                yield heard
            if reading.failure is None:
                return
            if attempt == 1:
                self.installed.remarks.note(f"it was started once more, since it {reading.failure}")
        raise SourceFault(f"reading stream {shape.name!r}: the tap {self.installed.name!r} {reading.failure}, twice")

    def _attempt(self, reading: "_Reading", shape: StreamShape, state: bytes | None, stop: threading.Event) -> Iterator[Heard]:
        arguments = ["--config", "{config}", "--catalog", "{catalog}"]
        others = [_deselected(entry) for entry in self._entries if entry.get("tap_stream_id") != shape.name]
        files: dict[str, object] = {"catalog": {"streams": [_selected(shape), *others]}}
        if state is not None and shape.version is not None:
            arguments += ["--state", "{state}"]
            files["state"] = state
        with self.installed.start(arguments, files, stop) as process:
            for lines in process.lines():
                yield reading.take(lines)
            status = process.status()
            if status != 0:
                reading.failure = f"{describe_status(status)}{process.tail()}"
                return
        yield Heard([], reading.held)


class _Reading:
    """This reading of one tap's process hands a state on once a record behind it, or a good end, shows that it holds."""

    def __init__(self, shape: StreamShape, installed: InstalledConnector) -> None:
        # Taps name their messages by either.
        self._names = {shape.name, str(shape.entry.get("stream") or shape.name)}
        self._keeps_state = shape.version is not None
        self._installed = installed
        self.held: bytes | None = None
        self.failure: str | None = None

    def take(self, lines: list[bytes]) -> Heard:
        """Raises SourceFault for what breaks the protocol, and SourceRefused for what is not read."""
        records: list[bytes] = []
        safe: bytes | None = None
        for line in lines:
            message = self._decode(line)
            if message is None:
                continue
            if message.type == "RECORD":
                if message.stream and message.stream not in self._names:
                    self._installed.remarks.of_others()
                    continue
                records.append(bytes(message.record))
                if self.held is not None:
                    safe, self.held = self.held, None
            elif message.type == "STATE":
                self.held = bytes(message.value) if self._keeps_state else None
            else:
                self._take_other(message.type)
        return Heard(records, safe)

    def _decode(self, line: bytes) -> _Message | None:
        try:
            message = _decode(line)
        except REFUSALS:
            record = salvaged(line, MATTERS, ("record",), self._installed.name)
            if record is None:
                self._installed.remarks.noise(line)
                return None
            return _Message("RECORD", record=msgspec.Raw(record))
        if message.type == "RECORD" and not bytes(message.record):
            raise SourceFault(f"the tap {self._installed.name!r} sent a RECORD message without `record`")
        return message

    def _take_other(self, kind: str) -> None:
        remarks = self._installed.remarks
        if kind == "BATCH":
            raise SourceRefused(
                f"the tap {self._installed.name!r} sends BATCH messages, which name files in place of records: switch `batch_config` "
                "off in its configuration"
            )
        if kind == "ACTIVATE_VERSION":
            remarks.note(
                "it sent ACTIVATE_VERSION, which asks for everything that was not sent to be deleted, and which is not followed: what "
                "is gone is found by the listing of each `relist_hours`, within the limit of deletions"
            )


def _shape(stream: _Stream, entry: dict[str, object]) -> StreamShape:
    of_stream = next((one.metadata for one in stream.metadata if not one.breadcrumb), {})
    keys = _names(of_stream.get("table-key-properties")) or stream.key_properties or []
    forced = of_stream.get("forced-replication-method") or of_stream.get("replication-method") or stream.replication_method
    known = [of_stream.get("replication-key"), stream.replication_key, *_names(of_stream.get("valid-replication-keys"))]
    version = next((str(key) for key in known if key), None) if forced != "FULL_TABLE" else None
    properties = stream.schema.get("properties")
    fields = properties if isinstance(properties, dict) else {}
    return StreamShape(
        name=stream.tap_stream_id,
        key=tuple((key,) for key in keys) or None,
        version=None if version is None else (version,),
        deleted=(DELETED_AT,) if DELETED_AT in fields else None,
        entry=entry,
        fields=tuple((name, type_in_words(schema)) for name, schema in fields.items()),
    )


def _selected(shape: StreamShape) -> dict[str, object]:
    """Returns the catalog's entry of the stream, with all of it selected, and the method that the declaration comes to."""
    stream = msgspec.convert(shape.entry, _Stream, strict=False)
    chosen: dict[str, object] = {"selected": True, "replication-method": "FULL_TABLE"}
    if shape.version is not None:
        chosen |= {"replication-method": "INCREMENTAL", "replication-key": ".".join(shape.version)}
    at_top = [one for one in stream.metadata if not one.breadcrumb] or [_Metadata()]
    within = [one for one in stream.metadata if one.breadcrumb]
    metadata = [{"breadcrumb": [], "metadata": {**at_top[0].metadata, **chosen}}]
    metadata += [
        {"breadcrumb": one.breadcrumb, "metadata": {**one.metadata, "selected": one.metadata.get("inclusion") != "unsupported"}}
        for one in within
    ]
    # Old taps look at these keys in place of the metadata.
    old = {key.replace("-", "_"): value for key, value in chosen.items()}
    return {**shape.entry, **old, "metadata": metadata}


def _deselected(entry: dict[str, object]) -> dict[str, object]:
    """Returns the entry of a stream that is not read, which a tap still wants to see: it may be the parent of one that is."""
    stream = msgspec.convert(entry, _Stream, strict=False)
    at_top = [one for one in stream.metadata if not one.breadcrumb] or [_Metadata()]
    within = [{"breadcrumb": one.breadcrumb, "metadata": one.metadata} for one in stream.metadata if one.breadcrumb]
    metadata = [{"breadcrumb": [], "metadata": {**at_top[0].metadata, "selected": False}}, *within]
    return {**entry, "selected": False, "metadata": metadata}


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else [str(value)] if isinstance(value, str) else []
