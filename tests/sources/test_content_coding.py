"""Bodies of every coding, whole and broken, from a real server on loopback."""

import gzip
import itertools
import sys
import zlib

import pytest

from sequin_pipeline.errors import SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.sources.http.retries import RetryPolicy
from tests.sources.reading import StandingTime, read
from tests.sources.scripted import Reply, page, scripted_server

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GOOD = page(*({"id": f"record {number}"} for number in range(2_000)))
RECORDS = b"[" + b", ".join(b'{"id": "record %d"}' % number for number in range(2_000)) + b"]"
FIRST, SECOND = GOOD.body[:7_000], GOOD.body[7_000:]
MEMBERS = gzip.compress(FIRST) + gzip.compress(SECOND)
MEMBER = {byte: gzip.compress(bytes([byte])) for byte in set(GOOD.body)}
FRAMES = zstd.compress(FIRST) + zstd.compress(SECOND)
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"


def deflated(body: bytes, window_bits: int) -> bytes:
    packing = zlib.compressobj(wbits=window_bits)
    return packing.compress(body) + packing.flush()


def packed(body: bytes, *codings: str) -> Reply:
    return Reply(200, body, {"Content-Encoding": ", ".join(codings)})


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(packed(MEMBERS, "gzip"), id="two gzip members"),
        pytest.param(packed(b"".join(MEMBER[byte] for byte in GOOD.body), "gzip"), id="a member for each byte"),
        pytest.param(packed(gzip.compress(b"") + MEMBERS + gzip.compress(b""), "gzip"), id="empty members around"),
        pytest.param(packed(MEMBERS + bytes(512), "gzip"), id="zeros behind the last member"),
        pytest.param(packed(MEMBERS, "x-gzip"), id="x-gzip"),
        pytest.param(packed(MEMBERS, "GZip"), id="a name in upper case"),
        pytest.param(packed(MEMBERS, "gzip", "identity"), id="gzip and identity"),
        pytest.param(packed(MEMBERS, "", " gzip ", ""), id="empty names in the list"),
        pytest.param(packed(GOOD.body, "identity"), id="identity"),
        pytest.param(packed(gzip.compress(deflated(GOOD.body, 15)), "deflate", "gzip"), id="deflate, then gzip"),
        pytest.param(packed(gzip.compress(MEMBERS), "gzip", "x-gzip"), id="gzip twice"),
        pytest.param(packed(deflated(GOOD.body, 15), "deflate"), id="deflate in the zlib format"),
        pytest.param(packed(deflated(GOOD.body, 9), "deflate"), id="deflate with a small window"),
        pytest.param(packed(deflated(GOOD.body, -15), "deflate"), id="deflate without a format"),
        pytest.param(packed(FRAMES, "zstd"), id="two zstd frames"),
        pytest.param(packed(SKIPPABLE + FRAMES + SKIPPABLE, "ZSTD"), id="zstd frames to be skipped"),
    ],
)
def test_body_of_every_coding_is_read_whole(reply: Reply) -> None:
    with scripted_server(reply) as server:
        (only,) = read(server.url)

    assert (only.records, only.cost.requests, only.cost.bytes) == (RECORDS, 1, len(reply.body))


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        pytest.param(packed(MEMBERS[:-1], "gzip"), "gzip member 2 ends before its checksum", id="gzip without its last byte"),
        pytest.param(packed(gzip.compress(GOOD.body)[:-8], "gzip"), "gzip member 1 ends before its checksum", id="no checksum"),
        pytest.param(
            packed(MEMBERS + gzip.compress(b"")[:5], "gzip"), "gzip member 3 ends before its checksum", id="member begun"
        ),
        pytest.param(packed(MEMBERS + b"\0\x1f", "x-gzip"), "gzip member 3 ends before its checksum", id="a byte behind zeros"),
        pytest.param(
            packed(MEMBERS + b"more", "gzip"),
            "gzip data is broken: Error -3 while decompressing data: incorrect header check",
            id="something behind gzip",
        ),
        pytest.param(
            packed(gzip.compress(GOOD.body)[:-8] + bytes(8), "gzip"),
            "gzip data is broken: Error -3 while decompressing data: incorrect data check",
            id="a wrong checksum",
        ),
        pytest.param(packed(deflated(GOOD.body, 15)[:-1], "deflate"), "deflate data is cut off", id="deflate cut"),
        pytest.param(packed(deflated(GOOD.body, -15)[:-1], "deflate"), "deflate data is cut off", id="bare deflate cut"),
        pytest.param(packed(b"x", "deflate"), "deflate data is cut off", id="one byte of deflate"),
        pytest.param(
            packed(deflated(GOOD.body, 15) + b"x", "deflate"), "something follows the end of deflate data", id="behind deflate"
        ),
        pytest.param(packed(FRAMES[:-1], "zstd"), "zstd data ends within a frame", id="zstd cut"),
        pytest.param(packed(FRAMES + FRAMES[:3], "zstd"), "zstd data ends within a frame", id="a frame begun"),
        pytest.param(packed(FRAMES + b"more", "zstd"), "zstd data is broken: Unable to decompress", id="something behind zstd"),
    ],
)
def test_body_that_does_not_unpack_to_its_end_is_asked_for_again(
    broken: Reply, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The JSON before the fault may be complete: what is missing could be anything."""
    with scripted_server(broken, GOOD) as server:
        (only,) = read(server.url)

    assert (only.records, only.cost.requests) == (RECORDS, 2)
    assert f"attempt 1 failed with DecodingError: '{told}" in caplog.text


@pytest.mark.parametrize(
    "codings", [("br",), ("compress",), ("gzip", "aws-chunked"), ("gzip",) * 5], ids=["br", "compress", "one of two", "too many"]
)
def test_coding_that_was_not_asked_for_and_cannot_be_undone_is_told(codings: tuple[str, ...]) -> None:
    time = StandingTime()

    with scripted_server(*[packed(b"\x0b\x02\x80[]\x03", *codings)] * 7) as server, pytest.raises(SourceFault) as caught:
        read(server.url, time=time)

    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: an answer with Content-Encoding '{', '.join(codings)}', where "
        "'zstd, gzip' was asked for: have the server, or the proxy before it, send what is asked for, and the same again when the "
        "request was repeated 6 times"
    )
    assert len(server.asked) == 7


def test_refusal_whose_coding_is_unknown_is_a_refusal() -> None:
    reply = Reply(403, b"\x0b\x02\x80no\x03", {"Content-Encoding": "br"})

    with scripted_server(reply) as server, pytest.raises(SourceRefused, match=r"status 403 \(Forbidden\): the source does not"):
        read(server.url)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(packed(gzip.compress(gzip.compress(bytes(2**26))), "gzip", "gzip"), id="gzip twice"),
        pytest.param(packed(deflated(bytes(2**26), 15), "deflate"), id="deflate"),
        pytest.param(packed(zstd.compress(bytes(2**26)), "zstd"), id="zstd"),
        pytest.param(packed(gzip.compress(bytes(2**16)) * 1024, "gzip"), id="many members"),
    ],
)
def test_small_body_that_unpacks_beyond_the_bound_is_given_up(bomb: Reply) -> None:
    with scripted_server(bomb) as server, pytest.raises(SourceFault, match=r"the answer is larger than 3,000,000 bytes"):
        read(server.url, max_bytes=3_000_000)


def test_packed_bytes_that_come_to_no_content_end_with_the_budget() -> None:
    ticks = itertools.count()
    empty = packed(gzip.compress(b"") * 100_000, "gzip")

    with (
        scripted_server(empty) as server,
        pytest.raises(SourceUnavailable, match=r"an answer still arriving after [\d,]+ bytes when time was up"),
    ):
        read(server.url, clock=lambda: float(next(ticks)), retry=RetryPolicy(budget_seconds=10.0))
