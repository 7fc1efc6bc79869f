"""A shop at the sandbox's Stripe API, whose clock a test sets: what a merchant does there comes in as records."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_app
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sandbox.stripe.app import build_stripe_app
from sequin_pipeline.sandbox.stripe.books import Books
from sequin_pipeline.sandbox.stripe.clock import Clock
from sequin_pipeline.sources.stripe.api import API_VERSION
from sequin_pipeline.sources.stripe.objects import LISTABLE
from tests.sources.stripe.shop import KEY, Shop, plain_client

HOUR_SECONDS = 3600

CLASSES = {listable.path.removeprefix("/v1/"): name for name, listable in LISTABLE.items()}


@dataclass
class HandClock:
    """Stands still until it is set forward; an hour behind this machine's, so that it never gets ahead of a run's."""

    second: int

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.second, UTC)


class SandboxShop(Shop):
    """Requests of a merchant as the newest versions of their objects."""

    objects = LISTABLE

    def __init__(self, url: str, clock: HandClock) -> None:
        super().__init__(url)
        self._client.headers["stripe-version"] = API_VERSION
        self.stranger = plain_client(url)
        self.clock = clock
        self._made: Counter[str] = Counter()

    def close(self) -> None:
        self.stranger.close()
        super().close()

    def post(self, path: str, **form: Any) -> dict[str, Any]:
        if path not in CLASSES:  # an object that is there
            return self._put(CLASSES[path.rpartition("/")[0]], {**self.get(path), **form})
        kind = CLASSES[path]
        self._made[kind] += 1
        made = {"id": f"{kind}_{self._made[kind]:05}", "object": kind, "created": self.clock.second}
        return self._put(kind, {**made, **form})

    def delete(self, path: str) -> dict[str, Any]:
        last = self.get(path)
        self._append(last["object"], last["id"], deleted=True)
        return last

    def listed(self, path: str, **params: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        has_more, after = True, dict[str, str]()
        while has_more:
            page = self.get(path, limit=100, **params, **after)
            found |= {each["id"]: each for each in page["data"]}
            has_more = page["has_more"]
            after = {"starting_after": page["data"][-1]["id"]} if has_more else {}
        return found

    def ask_for_faults(self, *faults: str) -> None:
        """Sets the faults, which count anew, in the place of those before."""
        self._answer(self._client.post("/_sandbox/faults", json={"faults": faults}))

    def next_second(self) -> None:
        self.clock.second += 1

    @contextmanager
    def standing_clock(self) -> Iterator[None]:
        yield

    def subscribe(self, customer: str, plan: str) -> str:
        item = {"id": "si_1", "object": "subscription_item", "price": {"id": plan, "object": "price"}}
        items = {"object": "list", "data": [item], "has_more": False, "url": "/v1/subscription_items"}
        subscription = self.post("subscriptions", customer=customer, status="active", items=items)
        self.post("invoices", customer=customer, status="open", total=500)
        return str(subscription["id"])

    def _put(self, kind: str, made: dict[str, Any]) -> dict[str, Any]:
        self._append(kind, made["id"], data=made)
        return made

    def _append(self, kind: str, object_id: str, **values: Any) -> None:
        record = {"collection_id": f"stripe:{kind}", "sync": {"id": "s1"}, "upstream_id": object_id, **values}
        self._answer(self._client.post("/_sandbox/records", content=json.dumps(record)))


@contextmanager
def sandbox_shop(**settings: Any) -> Iterator[SandboxShop]:
    """A fresh one, without anything in it."""
    hand = HandClock(int(datetime.now(UTC).timestamp()) - HOUR_SECONDS)
    clock = Clock(hand)
    books = Books(clock)
    app = build_stripe_app(RecordedFeed(follower=books.take), books, Settings(**{"token": KEY, **settings}), clock)
    with running_app(app, sends_date=False) as url:
        shop = SandboxShop(url, hand)
        try:
            yield shop
        finally:
            shop.close()
