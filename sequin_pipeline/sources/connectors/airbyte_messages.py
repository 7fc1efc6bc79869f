"""This module reads the messages of Airbyte's protocol, and keeps account of one read of one stream."""

import re
from typing import Literal

import msgspec

from sequin_pipeline.errors import SourceError, SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.records.json_text import REFUSALS
from sequin_pipeline.sources.connectors.masking import Mask
from sequin_pipeline.sources.connectors.process import describe_status
from sequin_pipeline.sources.connectors.spoken import Heard, Remarks, salvaged

_NOTHING = msgspec.Raw(b"")

MATTERS = re.compile(rb'"type"\s*:\s*"(RECORD|STATE|TRACE|CONTROL|CATALOG|CONNECTION_STATUS|SPEC)"')

PASSING_SIGNALS = (128 + 9, 128 + 15)
"""Somebody else ended the connector: the machine had no memory left, or is being shut down."""


class Descriptor(msgspec.Struct, frozen=True):
    """This value names a stream."""

    name: str
    namespace: str | None = None


class _Record(msgspec.Struct):
    stream: str
    data: msgspec.Raw
    namespace: str | None = None


class Message(msgspec.Struct):
    """This value is a message; only the part that its type names is there, and all but a record's is read when it is needed."""

    type: str
    record: _Record | None = None
    state: msgspec.Raw = _NOTHING
    trace: msgspec.Raw = _NOTHING
    log: msgspec.Raw = _NOTHING
    control: msgspec.Raw = _NOTHING
    catalog: msgspec.Raw = _NOTHING
    spec: msgspec.Raw = _NOTHING
    connection_status: msgspec.Raw = msgspec.field(default=_NOTHING, name="connectionStatus")


class _Stats(msgspec.Struct):
    record_count: float | None = msgspec.field(default=None, name="recordCount")


class _StreamState(msgspec.Struct):
    stream_descriptor: Descriptor
    stream_state: msgspec.Raw = msgspec.Raw(b"null")


class _State(msgspec.Struct):
    type: str = "LEGACY"
    stream: _StreamState | None = None
    stats: _Stats | None = msgspec.field(default=None, name="sourceStats")


class _Error(msgspec.Struct):
    message: str = ""
    internal_message: str | None = None
    failure_type: str | None = None


class _Status(msgspec.Struct):
    stream_descriptor: Descriptor
    status: str


class _Trace(msgspec.Struct):
    type: str
    error: _Error | None = None
    stream_status: _Status | None = None


class _Log(msgspec.Struct):
    level: str = "INFO"
    message: str = ""


class _ControlConfig(msgspec.Struct):
    config: dict[str, object]


class _Control(msgspec.Struct):
    type: str = ""
    connector_config: _ControlConfig | None = msgspec.field(default=None, name="connectorConfig")


_decode = msgspec.json.Decoder(Message).decode


class Conversation:
    """This value is what a connector says in one process, apart from records.

    That is its log, its errors, and a configuration that it has changed.
    """

    def __init__(self, connector: str, mask: Mask, remarks: Remarks) -> None:
        self.connector, self._mask, self.remarks = connector, mask, remarks
        self.error: _Error | None = None
        self.config: dict[str, object] | None = None

    def decode(self, line: bytes) -> Message | None:
        """Returns the message of a line; None for one that is no message, which is remarked upon."""
        try:
            message = _decode(line)
        except REFUSALS:
            data = salvaged(line, MATTERS, ("record", "data"), self.connector)
            if data is None:
                self.remarks.noise(line)
                return None
            return Message("RECORD", _Record("", msgspec.Raw(data)))
        if message.type == "RECORD" and message.record is None:
            raise SourceFault(f"the connector {self.connector!r} sent a RECORD message without `record`")
        return message

    def hear(self, message: Message) -> _Status | None:
        """Takes any message that is neither a record nor a state; returns the status of a stream where it is one."""
        try:
            return self._heard(message)
        except REFUSALS as error:
            raise self.broken(message.type, error) from None

    def _heard(self, message: Message) -> _Status | None:
        if message.type == "LOG":
            log = msgspec.json.decode(message.log, type=_Log)
            self.remarks.log(log.level, log.message)
        elif message.type == "TRACE":
            trace = msgspec.json.decode(message.trace, type=_Trace)
            # The first one says what happened, later ones that something has.
            self.error = self.error or trace.error
            return trace.stream_status
        elif message.type == "CONTROL":
            control = msgspec.json.decode(message.control, type=_Control)
            if control.connector_config is not None:
                self.config = control.connector_config.config
        return None

    def broken(self, kind: str, error: Exception) -> SourceFault:
        """Returns the error for a message that is not as the protocol has it."""
        return SourceFault(
            f"the connector {self.connector!r} sent a {kind} message that cannot be read: {self._mask(str(error))}"
        )

    def failure(self, doing: str, status: int, tail: str) -> SourceError | None:
        """Returns what the connector's error and its exit status come to; None where there is neither."""
        if self.error is None and status == 0:
            return None
        how = "" if status == 0 else f" ({describe_status(status)})"
        if self.error is None:
            kind: type[SourceError] = SourceUnavailable if status in PASSING_SIGNALS else SourceFault
            return kind(
                f"{doing}: the connector {self.connector!r} {describe_status(status)}, and said nothing of an error{tail}"
            )
        said = self._said(self.error)
        match self.error.failure_type:
            case "config_error":
                fix = "fix `connector.config` in the defs.yaml, or the account's rights"
                return SourceRefused(f"{doing}: the connector {self.connector!r} refuses its configuration{how}: {said}: {fix}")
            case "transient_error":
                return SourceUnavailable(
                    f"{doing}: the connector {self.connector!r} gave up for a reason that passes{how}: {said}"
                )
        return SourceFault(f"{doing}: the connector {self.connector!r} failed{how}: {said}")

    def _said(self, error: _Error) -> str:
        parts = [error.message, error.internal_message or ""]
        texts = [self._mask.of_bytes(part.encode(errors="replace"), 500) for part in dict.fromkeys(parts) if part]
        return " | ".join(texts) or "it gave no message"


class StreamReading:
    """This object keeps account of one read of one stream: what has come, against what the connector says has come.

    A state is handed on only once something that follows it shows that the read goes on, or when the stream is complete: a connector
    that fails may still send the state that it has reached.
    """

    def __init__(self, stream: Descriptor, conversation: Conversation) -> None:
        self._stream, self._conversation = stream, conversation
        self._since_state = 0
        self._held: bytes | None = None
        self._end: Literal["", "COMPLETE", "INCOMPLETE"] = ""

    def take(self, lines: list[bytes]) -> Heard:
        """Raises SourceFault for what breaks the protocol, and SourceRefused for what cannot be kept."""
        records: list[bytes] = []
        safe: bytes | None = None
        for line in lines:
            message = self._conversation.decode(line)
            if message is None:
                continue
            if message.type == "RECORD":
                if message.record is not None and self._is_ours(message.record):
                    records.append(bytes(message.record.data))
                    self._since_state += 1
                    if self._held is not None and self._can_go_on():
                        safe, self._held = self._held, None
            elif message.type == "STATE":
                self._take_state(message.state)
            else:
                self._take_status(self._conversation.hear(message))
        return Heard(records, safe)

    def end(self, doing: str, status: int, tail: str) -> bytes | None:
        """Returns the last state once the process has ended well; raises SourceError where it has not."""
        failure = self._conversation.failure(doing, status, tail)
        if failure is not None:
            raise failure
        connector = self._conversation.connector
        if self._end != "COMPLETE":
            said = "said that the stream is INCOMPLETE" if self._end else "never said that the stream is COMPLETE"
            raise SourceFault(
                f"{doing}: the connector {connector!r} ended with status 0, but {said}: what it sent last is not relied on{tail}"
            )
        return self._held

    def _is_ours(self, record: _Record) -> bool:
        # A record that had to be salvaged names no stream.
        is_ours = not record.stream or Descriptor(record.stream, record.namespace) == self._stream
        if not is_ours:
            self._conversation.remarks.of_others()
        return is_ours

    def _can_go_on(self) -> bool:
        return self._conversation.error is None and self._end != "INCOMPLETE"

    def _take_status(self, status: _Status | None) -> None:
        if status is not None and status.stream_descriptor == self._stream and status.status in ("COMPLETE", "INCOMPLETE"):
            self._end = "COMPLETE" if status.status == "COMPLETE" and self._end != "INCOMPLETE" else "INCOMPLETE"

    def _take_state(self, raw: msgspec.Raw) -> None:
        conversation = self._conversation
        try:
            state = msgspec.json.decode(raw, type=_State)
        except REFUSALS as error:
            raise conversation.broken("STATE", error) from None
        if state.type != "STREAM" or state.stream is None:
            raise SourceRefused(
                f"the connector {conversation.connector!r} keeps a {state.type} state, which stands for all of its streams "
                "together: collections are read one by one, and each would move it for the others. Only connectors whose state is kept per "
                "stream can be read"
            )
        if state.stream.stream_descriptor != self._stream:
            conversation.remarks.of_others()
            return
        told = state.stats.record_count if state.stats else None
        if told is not None and told != self._since_state:
            raise SourceFault(
                f"the connector {conversation.connector!r} says that it sent {told:,.0f} records of stream {self._stream.name!r} since "
                f"its last state, and {self._since_state:,} came: a part was lost on the way, and nothing behind the last good state is "
                "relied on"
            )
        self._since_state = 0
        kept = {"type": "STREAM", "stream": {"stream_descriptor": self._stream, "stream_state": state.stream.stream_state}}
        self._held = msgspec.json.encode(kept)
