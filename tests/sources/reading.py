"""A source whose time stands still: waits are remembered instead of waited, and the draw of the jitter is always 1."""

import ssl
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx2

from sequin_pipeline.sources import Page, ReadRequest
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.sequin import SequinSource

TOKEN = "secret-token-7Q"
NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


@dataclass
class StandingTime:
    """A clock that moves only when somebody sleeps."""

    seconds: float = 1000.0
    waits: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def options(self, **overrides: Any) -> HttpOptions:
        standing = HttpOptions(ssl_context=authorities(), sleep=self.sleep, clock=self.clock, now=lambda: NOW, random=lambda: 1.0)
        return replace(standing, **overrides)


@cache
def authorities() -> ssl.SSLContext:
    """What a client has when it is told nothing, read once: it takes longer than a whole read."""
    return httpx2.create_ssl_context()


def request(**overrides: Any) -> ReadRequest:
    return replace(ReadRequest(frozenset({"stripe:price"})), **overrides)


def source(url: str, *, token: str | None = TOKEN, time: StandingTime | None = None, **options: Any) -> SequinSource:
    return SequinSource(url, token, options=(time or StandingTime()).options(**options))


def read(url: str, asked: ReadRequest | None = None, *, time: StandingTime | None = None, **options: Any) -> list[Page]:
    """Every page of one read."""
    return list(source(url, time=time, **options).pages(asked or request()))
