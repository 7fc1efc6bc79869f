"""A shop at a Stripe that runs on loopback: what a merchant does there, and what the server itself lists."""

import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import httpx2

from sequin_pipeline.catalog import SourceAccount
from sequin_pipeline.sources.stripe.objects import LISTABLE, Listable
from tests.support.checkout import CHECKOUT

KEY = "sk_test_7Qsecret"
ACCOUNT = SourceAccount("main", "STRIPE_API_KEY", external_id="tenant-1", metadata={"region": "eu"})
TICK_SECONDS = 5.0

LOCALSTRIPE = {name: replace(listable, filters_created=False, filters_events=False) for name, listable in LISTABLE.items()}
"""localstripe knows no bounds for `created` in its lists, nor patterns of events."""


def refuse_live(key: str) -> str:
    """Tests create and delete what they find: they never touch an account with real money in it."""
    assert "_live_" not in key, "a key of live mode was given to a test"
    return key


def plain_client(url: str, **headers: str) -> httpx2.Client:
    """Without reading the system's certificates, which takes 25 ms, for what is on loopback."""
    return httpx2.Client(base_url=url, headers=headers, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@dataclass
class Shop:
    """Requests as a merchant sends them; forms of Stripe as nested dicts (localstripe takes JSON)."""

    url: str
    key: str = KEY
    objects: ClassVar[Mapping[str, Listable]] = LOCALSTRIPE
    """What the server can do with the lists."""

    def __post_init__(self) -> None:
        refuse_live(self.key)
        self._client = plain_client(self.url, authorization=f"Bearer {self.key}")

    def close(self) -> None:
        self._client.close()

    def post(self, path: str, **form: Any) -> dict[str, Any]:
        return self._answer(self._client.post(f"/v1/{path}", json=form))

    def delete(self, path: str) -> dict[str, Any]:
        return self._answer(self._client.delete(f"/v1/{path}"))

    def subscribe(self, customer: str, plan: str) -> str:
        """Returns the id of a new subscription, of which there is an invoice then."""
        card = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040", "cvc": "123"}
        method = self.post("payment_methods", type="card", card=card)["id"]
        self.post(f"payment_methods/{method}/attach", customer=customer)
        self.post(f"customers/{customer}", invoice_settings={"default_payment_method": method})
        return str(self.post("subscriptions", customer=customer, items=[{"plan": plan}])["id"])

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._answer(self._client.get(f"/v1/{path}", params=params))

    def listed(self, path: str, **params: Any) -> dict[str, dict[str, Any]]:
        """Everything that the server lists, by id."""
        found = self.get(path, limit=10_000, **params)
        assert not found["has_more"]
        return {each["id"]: each for each in found["data"]}

    def next_second(self) -> None:
        """Waits until the server's clock has moved on by a second."""
        first = self._client.get("/v1/customers", params={"limit": 1}).headers["date"]
        deadline = time.monotonic() + TICK_SECONDS
        while self._client.get("/v1/customers", params={"limit": 1}).headers["date"] == first:
            assert time.monotonic() < deadline, "the server's clock stands still"

    @contextmanager
    def standing_clock(self) -> Iterator[None]:
        """All that is made within it is of one second, however slow the machine."""
        self._answer(self._client.post("/_config/clock/stop"))
        try:
            yield
        finally:
            self._answer(self._client.post("/_config/clock/go_on"))

    def _answer(self, response: httpx2.Response) -> dict[str, Any]:
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer


@contextmanager
def localstripe() -> Iterator[Shop]:
    """A fresh one."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sources.stripe.localstripe_process"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            shop = Shop(f"http://127.0.0.1:{port}")
            try:
                yield shop
            finally:
                shop.close()
        finally:
            process.kill()
