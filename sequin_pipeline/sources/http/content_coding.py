"""This module unpacks the body of an answer by its `Content-Encoding` (RFC 9110, 8.4): all of it, or an error.

The HTTP library's own decoders stop at the first member of a gzip body, take one that lacks its checksum for complete, and hand
on a coding that they do not know as it came.
"""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType

import httpx2

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.sources.http.retries import AskAgain

zstd: ModuleType | None
try:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
except ImportError:
    # A Python 3.14 that was built without it.
    zstd = None

ACCEPTED = "gzip" if zstd is None else "zstd, gzip"
"""Requests ask for these codings; what else can be unpacked comes from servers that ignore the request."""

PIECE_BYTES = 2**20
"""At most this much is unpacked at once, so that a small body cannot fill the memory before anybody has counted.

Measured with zstd, whose pages unpack to 2.5 MB: pieces of 64 KiB cost half as much again.
"""
PACKED_BYTES = 2**16
"""At most this much is given to be unpacked at once, which is what a connection gives.

What stands behind a gzip member is copied for each of them, which more of tiny members would pay for.
"""

MAX_CODINGS = 4
"""One coding is usual and two are a proxy's doing; each more is a chance to multiply what a small body becomes."""

UNKNOWN_REPEATS = 6
"""As for bodies that are not JSON, this is half a minute, for a proxy that is being set up."""

GZIP, ZLIB, RAW_DEFLATE = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
"""These are the forms of a deflate stream, as zlib calls them."""


def codings_of(headers: httpx2.Headers) -> tuple[str, ...]:
    """Returns the names of the codings in the order in which they were applied, without those that change nothing.

    Several headers are one list.
    """
    named = (name.strip().lower() for name in headers.get_list("content-encoding", split_commas=True))
    return tuple(name for name in named if name not in ("", "identity"))


def unpack(chunks: Iterable[bytes], codings: Sequence[str]) -> Iterator[bytes]:
    """Yields the content in pieces of at most PIECE_BYTES; an empty body is empty, whatever its coding.

    Raises AskAgain for codings that cannot be undone, and httpx2.DecodingError where `chunks` do not unpack to their end.
    """
    unknown = [name for name in codings if name not in _UNPACKING]
    if unknown or len(codings) > MAX_CODINGS:
        raise AskAgain(
            f"an answer with Content-Encoding {', '.join(codings)!r}, where {ACCEPTED!r} was asked for: have the server, or the proxy "
            "before it, send what is asked for",
            ends_as=SourceFault,
            at_most=UNKNOWN_REPEATS,
        )
    pieces = iter(chunks)
    for name in reversed(codings):
        pieces = _UNPACKING[name](_cut(pieces))
    return pieces


def _cut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), PACKED_BYTES):
            yield chunk[start : start + PACKED_BYTES]


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpacks one member after the other (RFC 1952, 2.2); zeros that fill up the last block are not a member."""
    member, has_ended = zlib.decompressobj(GZIP), True
    members = 0
    for chunk in chunks:
        rest = chunk
        while rest := rest.lstrip(b"\0") if has_ended and members else rest:
            if has_ended:
                member, has_ended = zlib.decompressobj(GZIP), False
                members += 1
            yield from _inflate(member, rest, "gzip")
            rest, has_ended = member.unused_data, member.eof
    if not has_ended:
        raise httpx2.DecodingError(f"gzip member {members} ends before its checksum")


def _undeflate(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpacks the zlib format that RFC 9110 (8.4.1.2) means, or the bare stream that some servers send instead."""
    head, stream = b"", None
    for chunk in chunks:
        head += chunk
        if stream is None and len(head) < 2:
            continue
        if stream is None:
            is_zlib = head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
            stream = zlib.decompressobj(ZLIB if is_zlib else RAW_DEFLATE)
        if stream.eof:
            raise httpx2.DecodingError("something follows the end of deflate data")
        yield from _inflate(stream, head, "deflate")
        head = stream.unused_data
    if head and stream is not None:
        raise httpx2.DecodingError("something follows the end of deflate data")
    if head or (stream is not None and not stream.eof):
        raise httpx2.DecodingError("deflate data is cut off")


def _inflate(stream: "zlib._Decompress", data: bytes, coding: str) -> Iterator[bytes]:
    """Yields all that `data` gives, up to the end of the stream."""
    try:
        piece = stream.decompress(data, PIECE_BYTES)
        yield piece
        # A full piece may have more behind it, also where no input is left over.
        while stream.unconsumed_tail or len(piece) == PIECE_BYTES:
            piece = stream.decompress(stream.unconsumed_tail, PIECE_BYTES)
            yield piece
    except zlib.error as error:
        raise httpx2.DecodingError(f"{coding} data is broken: {error}") from error


def _unzstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpacks one frame after the other (RFC 8878, 3.1), skippable frames included."""
    assert zstd is not None  # noqa: S101 - else the coding is unknown
    frame, has_ended = zstd.ZstdDecompressor(), True
    for chunk in chunks:
        rest = chunk
        while rest:
            if has_ended:
                frame = zstd.ZstdDecompressor()
            try:
                yield frame.decompress(rest, PIECE_BYTES)
                while not (frame.eof or frame.needs_input):
                    yield frame.decompress(b"", PIECE_BYTES)
            except zstd.ZstdError as error:
                raise httpx2.DecodingError(f"zstd data is broken: {error}") from error
            has_ended = frame.eof
            rest = frame.unused_data if has_ended else b""
    if not has_ended:
        raise httpx2.DecodingError("zstd data ends within a frame")


Unpacking = Callable[[Iterable[bytes]], Iterator[bytes]]
_UNPACKING: Mapping[str, Unpacking] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undeflate,
    **({} if zstd is None else {"zstd": _unzstd}),
}
