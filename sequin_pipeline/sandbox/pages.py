"""This module answers `GET /v1/records`: one page of the stream after a cursor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from sequin_pipeline.sandbox.answers import ApiError, invalid
from sequin_pipeline.sandbox.parameters import choice, whole_number
from sequin_pipeline.sandbox.settings import DEFAULT_LIMIT, ENDS, RECORD_FORMS, End, RecordForm, Settings
from sequin_pipeline.sandbox.stream import START, Entry, Selection, Stream, cursor_at, position_of
from sequin_pipeline.sandbox.wire import older_form

PageFault = Literal["duplicate-page", "cursor-loop", "cursor-back", "empty-page"]
"""These pages break or strain the contract.

The records before the cursor once more, under a new cursor that leads on; the page under the cursor that was sent; the page under a
cursor given earlier; no records under a new cursor that leads on.
"""


@dataclass(frozen=True)
class PageRequest:
    """This value is a request for a page; `sent_cursor` is the cursor as the client sent it, `after` its position."""

    selection: Selection
    sent_cursor: str | None
    after: int
    limit: int
    end: End
    form: RecordForm


def page_request(query: Mapping[str, str], stream: Stream, settings: Settings) -> PageRequest:
    """Reads the request for a page; raises ApiError.

    That is 422 for an invalid parameter, 400 for a cursor that nobody gave out, 404 for one beyond the stream. More records than the
    limit's cap are granted as the cap, which the contract tells clients to expect.
    """
    collection_id = query.get("collection_id")
    if collection_id is not None and not all(collection_id.partition(":")):
        raise invalid("collection_id", "must look like provider:name")
    limit = whole_number(query, "limit", default=DEFAULT_LIMIT, lowest=1, highest=999_999_999)
    sent_cursor = query.get("after_cursor")
    return PageRequest(
        Selection(collection_id, query.get("sync_id"), query.get("provider")),
        sent_cursor,
        START if sent_cursor is None else _position(sent_cursor, stream),
        min(limit, settings.limit_cap),
        choice(query, "end", choices=ENDS, default=settings.end),
        choice(query, "form", choices=RECORD_FORMS, default=settings.form),
    )


def _position(cursor: str, stream: Stream) -> int:
    position = position_of(cursor)
    if position is None:
        raise ApiError(400, "after_cursor is not a cursor of this API")
    if position > stream.head:
        raise ApiError(404, "after_cursor lies beyond the end of the stream")
    return position


def page_body(request: PageRequest, stream: Stream) -> bytes:
    """Returns the JSON text of the page."""
    entries = stream.after(request.after, request.limit, request.selection)
    ends_with_records = request.end in ("records-null", "records-absent")
    if entries and not (ends_with_records and not stream.after(entries[-1].position, 1, request.selection)):
        return _body(request, entries, cursor_at(entries[-1].position))
    if request.end == "empty-same":
        return _body(request, entries, request.sent_cursor)
    if request.end in ("empty-absent", "records-absent"):
        return b'{"records":[' + _joined(request, entries) + b"]}"
    return _body(request, entries, None)


def faulty_page_body(fault: str, request: PageRequest, stream: Stream, *, mark: int) -> bytes:
    """Returns the page with one of the `PageFault`s in it; `mark` makes the cursor a new one."""
    entries = stream.after(request.after, request.limit, request.selection)
    earlier = stream.up_to(request.after, request.limit + 1, request.selection)
    match fault:
        case "duplicate-page":
            return _body(request, earlier[-request.limit :], cursor_at(request.after, mark))
        case "empty-page":
            return _body(request, [], cursor_at(request.after, mark))
        case "cursor-loop":
            return _body(request, entries, request.sent_cursor or cursor_at(START))
        case _:
            return _body(request, entries, cursor_at(earlier[0].position if len(earlier) > request.limit else START))


def _body(request: PageRequest, entries: list[Entry], cursor: str | None) -> bytes:
    return b'{"records":[' + _joined(request, entries) + b'],"cursor":' + msgspec.json.encode(cursor) + b"}"


def _joined(request: PageRequest, entries: list[Entry]) -> bytes:
    if request.form == "old":
        return b",".join([older_form(entry.body) for entry in entries])
    return b",".join([entry.body for entry in entries])
