"""This module makes answers in the API's form: JSON, compressed where the client takes it, and errors with a summary."""

import gzip
import sys
from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WORTH_COMPRESSING_BYTES = 1024


class ApiError(Exception):
    """The API refuses a request; becomes `{"summary": …}`, with `validation_errors` by parameter for a 422."""

    def __init__(self, status: int, summary: str, validation_errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(summary)
        self.status = status
        self.summary = summary
        self.validation_errors = validation_errors


def invalid(parameter: str, reason: str) -> ApiError:
    return ApiError(422, "Validation failed", {parameter: [reason]})


def json_answer(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def error_answer(error: ApiError) -> Response:
    content: dict[str, object] = {"summary": error.summary}
    if error.validation_errors is not None:
        content["validation_errors"] = error.validation_errors
    return json_answer(content, error.status)


def compressed(request: Request, answer: Response) -> Response:
    """Compresses the answer, zstd before gzip, each at its lowest level: a page must cost little more than the join of its records."""
    body = bytes(answer.body)
    encodings = _accepted(request.headers.get("accept-encoding", ""))
    if len(body) < WORTH_COMPRESSING_BYTES or "content-encoding" in answer.headers or not encodings & {"zstd", "gzip"}:
        return answer
    if "zstd" in encodings:
        body, encoding = zstd.compress(body, level=1), "zstd"
    else:
        body, encoding = gzip.compress(body, compresslevel=1, mtime=0), "gzip"
    headers = {"content-encoding": encoding, "vary": "accept-encoding"}
    return Response(body, answer.status_code, headers, media_type=answer.media_type)


def _accepted(header: str) -> frozenset[str]:
    """Returns the codings that the client takes; `;q=0` refuses one (RFC 9110, 12.5.3)."""
    offers = (offer.partition(";") for offer in header.lower().split(","))
    return frozenset(
        name.strip() for name, _, weight in offers if weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    )
