"""This module calls connectors that speak Airbyte's protocol: spec, check, discover and read, each a process of its own."""

import threading
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.reads import JsonPath
from sequin_pipeline.records.json_text import REFUSALS
from sequin_pipeline.sources.connectors.airbyte_messages import Conversation, Descriptor, Message, StreamReading
from sequin_pipeline.sources.connectors.installed import InstalledConnector
from sequin_pipeline.sources.connectors.spoken import Heard, StreamShape, type_in_words

DELETED_AT = "_ab_cdc_deleted_at"
"""Connectors of databases tell deletions by this key."""


_Answer = TypeVar("_Answer")


class _Catalog(msgspec.Struct):
    streams: list[dict[str, object]]


class _Stream(msgspec.Struct):
    name: str
    namespace: str | None = None
    json_schema: dict[str, object] = {}
    supported_sync_modes: list[str] = []
    source_defined_cursor: bool | None = None
    default_cursor_field: list[str] | None = None
    source_defined_primary_key: list[list[str]] | None = None


class _ConnectionStatus(msgspec.Struct):
    status: str
    message: str | None = None


class Airbyte:
    """This is a connector of Airbyte's protocol.

    Messages raise SourceRefused, SourceUnavailable or SourceFault, as their error says.
    """

    kind = "airbyte"

    def __init__(self, installed: InstalledConnector) -> None:
        self.installed = installed

    def check(self, stop: threading.Event) -> str | None:
        """Returns why the connector cannot reach what it reads, or None where it can."""
        message = self._answer(["check", "--config", "{config}"], "CONNECTION_STATUS", "checking the connection", stop)
        answer = self._read(message.connection_status, _ConnectionStatus, "CONNECTION_STATUS")
        # The exit status of a check that has failed is 0.
        if answer.status == "SUCCEEDED":
            return None
        return self.installed.mask.of_bytes((answer.message or "it does not say why").encode(errors="replace"), 500)

    def secret_keys(self, stop: threading.Event) -> frozenset[str]:
        """Returns the keys of the configuration that the connector's specification calls secrets."""
        message = self._answer(["spec"], "SPEC", "asking for the specification", stop)
        return frozenset(_secret_keys(self._read(message.spec, dict[str, object], "SPEC")))

    def streams(self, stop: threading.Event) -> dict[str, StreamShape]:
        """Returns the streams of the connector's catalog by name; one whose name comes twice as `namespace.name`."""
        message = self._answer(["discover", "--config", "{config}"], "CATALOG", "asking for the streams", stop)
        entries = self._read(message.catalog, _Catalog, "CATALOG").streams
        streams = [(entry, msgspec.convert(entry, _Stream, strict=False)) for entry in entries]
        names = [stream.name for _, stream in streams]
        return {
            stream.name if names.count(stream.name) == 1 else f"{stream.namespace}.{stream.name}": _shape(stream, entry)
            for entry, stream in streams
        }

    def read(self, shape: StreamShape, state: bytes | None, stop: threading.Event) -> Iterator[Heard]:
        """Yields what the stream has, from the state on; the last piece holds the state of the end."""
        installed = self.installed
        doing = f"reading stream {shape.name!r}"
        conversation = Conversation(installed.name, installed.mask, installed.remarks)
        reading = StreamReading(_descriptor(shape), conversation)
        keeps_state = _is_incremental(shape)
        arguments = ["read", "--config", "{config}", "--catalog", "{catalog}"]
        files: dict[str, object] = {"catalog": {"streams": [_configured(shape)]}}
        if state is not None and keeps_state:
            arguments += ["--state", "{state}"]
            files["state"] = b"[" + state + b"]"
        with installed.start(arguments, files, stop) as process:
            for lines in process.lines():
                heard = reading.take(lines)
                yield heard if keeps_state else Heard(heard.records)
            last = reading.end(doing, process.status(), process.tail())
        self._take_over(conversation)
        # The state of a stream that is read whole may say that it has been read: given back, the next read would send nothing.
        yield Heard([], last if keeps_state else None)

    def _answer(self, arguments: list[str], kind: str, doing: str, stop: threading.Event) -> Message:
        installed = self.installed
        conversation = Conversation(installed.name, installed.mask, installed.remarks)
        found: list[Message] = []

        def hear(lines: list[bytes]) -> None:
            for line in lines:
                message = conversation.decode(line)
                if message is not None and message.type == kind:
                    found.append(message)
                elif message is not None:
                    conversation.hear(message)

        status, tail = installed.ask(arguments, hear, stop)
        self._take_over(conversation)
        # A check says FAILED and sends the error besides.
        failure = None if found and kind == "CONNECTION_STATUS" else conversation.failure(doing, status, tail)
        if failure is not None:
            raise failure
        if not found:
            raise SourceFault(
                f"{doing}: the connector {installed.name!r} sent no {kind} message, and ended with status {status}{tail}"
            )
        return found[-1]

    def _take_over(self, conversation: Conversation) -> None:
        if conversation.config is not None:
            self.installed.change_config(conversation.config)

    def _read(self, raw: msgspec.Raw, as_type: type[_Answer], kind: str) -> _Answer:
        try:
            return msgspec.json.decode(raw, type=as_type)
        except REFUSALS as error:
            told = self.installed.mask(str(error))
            raise SourceFault(
                f"the connector {self.installed.name!r} sent a {kind} message that cannot be read: {told}"
            ) from None


def _shape(stream: _Stream, entry: dict[str, object]) -> StreamShape:
    properties = stream.json_schema.get("properties")
    fields = properties if isinstance(properties, dict) else {}
    is_incremental = "incremental" in stream.supported_sync_modes
    key = tuple(tuple(path) for path in stream.source_defined_primary_key or ())
    return StreamShape(
        name=stream.name,
        key=key or None,
        version=tuple(stream.default_cursor_field) if is_incremental and stream.default_cursor_field else None,
        deleted=(DELETED_AT,) if DELETED_AT in fields else None,
        entry=entry,
        fields=tuple((name, type_in_words(schema)) for name, schema in fields.items()),
    )


def _descriptor(shape: StreamShape) -> Descriptor:
    namespace = shape.entry.get("namespace")
    return Descriptor(shape.name, namespace if isinstance(namespace, str) else None)


def _is_incremental(shape: StreamShape) -> bool:
    modes = shape.entry.get("supported_sync_modes")
    has_cursor = bool(shape.entry.get("source_defined_cursor")) or shape.version is not None
    return isinstance(modes, list) and "incremental" in modes and has_cursor


def _configured(shape: StreamShape) -> dict[str, object]:
    cursor: JsonPath = shape.version or ()
    return {
        "stream": shape.entry,
        "sync_mode": "incremental" if _is_incremental(shape) else "full_refresh",
        "destination_sync_mode": "append",
        "cursor_field": list(cursor),
        "primary_key": [list(path) for path in shape.key or ()],
    }


def _secret_keys(schema: object) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if isinstance(value, dict) and value.get("airbyte_secret") is True:
            yield str(key)
        for inner in value if isinstance(value, list) else [value]:
            yield from _secret_keys(inner)
