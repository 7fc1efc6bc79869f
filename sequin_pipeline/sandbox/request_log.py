"""The request log says which requests of the API the sandbox has answered, for tests that count them."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from starlette.requests import Request

from sequin_pipeline.sandbox.faults import Fault

KEPT_REQUESTS = 10_000
"""What is older is forgotten: a sandbox may run for weeks."""


@dataclass(frozen=True)
class LoggedRequest:
    """This value is one request; `number` counts from 1 in order of arrival, and the bearer token is not kept.

    `status` is None when the connection was reset before an answer.
    """

    number: int
    at: str
    method: str
    path: str
    query: Mapping[str, str]
    accept_encoding: str
    user_agent: str
    fault: str | None
    status: int | None
    body_bytes: int


class RequestLog:
    """This log counts requests when they arrive and keeps them, in order of their answers."""

    def __init__(self) -> None:
        self._requests: deque[LoggedRequest] = deque(maxlen=KEPT_REQUESTS)
        self._count = 0

    def arrived(self) -> int:
        """Returns the number of a request that has just come in."""
        self._count += 1
        return self._count

    def answered(self, request: Request, number: int, *, fault: Fault | None, status: int, body_bytes: int) -> None:
        entry = LoggedRequest(
            number=number,
            at=datetime.now(UTC).isoformat(),
            method=request.method,
            path=request.url.path,
            query=dict(request.query_params),
            accept_encoding=request.headers.get("accept-encoding", ""),
            user_agent=request.headers.get("user-agent", ""),
            fault=fault.text if fault else None,
            status=None if fault and fault.kind == "reset-before" else status,
            body_bytes=body_bytes,
        )
        self._requests.append(entry)

    def clear(self) -> None:
        self._requests.clear()
        self._count = 0

    def described(self) -> Mapping[str, object]:
        return {"count": self._count, "requests": [asdict(entry) for entry in self._requests]}
