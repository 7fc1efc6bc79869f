"""These books hold what each Stripe account has, and the events of its last 30 days; they follow the sandbox's stream version by version.

Nothing here knows HTTP, and times are those of the changes.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from sequin_pipeline.sandbox.records import SyncInfo
from sequin_pipeline.sandbox.stream import Entry
from sequin_pipeline.sandbox.stripe.clock import Clock
from sequin_pipeline.sandbox.stripe.consequences import (
    KEPT,
    TIMES,
    as_shown,
    deletion_type,
    derived,
    event_types,
    token,
)
from sequin_pipeline.sandbox.stripe.forms import OWN_VERSION, in_form
from sequin_pipeline.sandbox.stripe.shelf import Shelf, Shown

EVENTS_KEPT_SECONDS = 30 * 86_400
"""Stripe lists no older events."""

OPENED = 1_672_531_200
"""Every account was opened on 2023-01-01."""

PROVIDER = "stripe"


class _Record(msgspec.Struct):
    """This is what is read of a record; one that lacks any of it is nothing that Stripe could list."""

    collection_id: str
    upstream_id: str
    deleted: bool = False
    inserted_at: datetime | None = None
    data: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Record, float_hook=Decimal)


class Account:
    """An account holds its objects by class, and which of them it has deleted.

    Stripe's id of it goes by its number, so that an account that is still empty has the one that it will keep.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = "Sandbox"
        self._shelves: defaultdict[str, Shelf] = defaultdict(Shelf)
        self._deleted: defaultdict[str, set[str]] = defaultdict(set)

    @property
    def id(self) -> str:
        return f"acct_1{token('account', self.number)[:15]}"

    def shelf(self, kind: str) -> Shelf:
        return self._shelves[kind]

    def described(self) -> Shown:
        """Returns the account as an object of Stripe."""
        return {
            "id": self.id,
            "object": "account",
            "business_profile": {"name": self.name},
            "charges_enabled": True,
            "country": "US",
            "created": OPENED,
            "default_currency": "usd",
            "details_submitted": True,
            "email": None,
            "metadata": {},
            "payouts_enabled": True,
            "settings": {"dashboard": {"display_name": self.name, "timezone": "Etc/UTC"}},
            "type": "standard",
        }

    def has_deleted(self, kind: str, object_id: str) -> bool:
        return object_id in self._deleted[kind]

    def find(self, object_id: str) -> Shown | None:
        """Returns the object with that id, of whichever class."""
        return next((found for shelf in self._shelves.values() if (found := shelf.get(object_id)) is not None), None)

    def apply(self, kind: str, object_id: str, data: dict[str, Any] | None, *, deleted: bool, at: int, source: object) -> None:
        """Applies one version of an object; `source` says which, so that the ids of its events are always the same."""
        known = self._shelves[kind].get(object_id)
        shown = as_shown(kind, {"id": object_id, "object": kind} | data | {"id": object_id}) if data is not None else known
        if deleted and kind in KEPT:
            if shown is not None:
                self._put(kind, KEPT[kind](shown, at), at=at, source=source)
        elif deleted:
            self._delete(kind, object_id, at=at, source=source)
        elif shown is not None:
            self._put(kind, shown, at=at, source=source)

    def forget_events(self, now: int) -> None:
        self._shelves["event"].forget_before(now - EVENTS_KEPT_SECONDS)

    def _put(self, kind: str, shown: Shown, *, at: int, source: object) -> None:
        shelf, object_id = self._shelves[kind], shown["id"]
        before = shelf.get(object_id)
        if before == shown:
            return
        created = shown.get(TIMES.get(kind, "created"))
        shelf.put(object_id, shown, created=created if type(created) is int else at)
        self._deleted[kind].discard(object_id)
        self._tell(event_types(kind, before, shown), shown, before, at=at, source=source)
        following = list(derived(shown))
        if before is not None:
            remaining = {each["id"] for each in following}
            self._delete_all((each for each in derived(before) if each["id"] not in remaining), at=at, source=source)
        for each in following:
            self._put(each["object"], each, at=at, source=source)

    def _delete(self, kind: str, object_id: str, *, at: int, source: object) -> None:
        last = self._shelves[kind].get(object_id)
        self._deleted[kind].add(object_id)
        if last is None:
            return
        self._shelves[kind].remove(object_id)
        self._tell(deletion_type(kind), last, None, at=at, source=source)
        self._delete_all(derived(last), at=at, source=source)

    def _delete_all(self, gone: Iterable[Shown], *, at: int, source: object) -> None:
        for each in gone:
            self._delete(each["object"], each["id"], at=at, source=source)

    def _tell(self, types: tuple[str, ...], shown: Shown, before: Shown | None, *, at: int, source: object) -> None:
        data: Shown = {"object": in_form(shown, OWN_VERSION)}
        if before is not None:
            earlier = in_form(before, OWN_VERSION)
            changed = {name for name in data["object"].keys() | earlier.keys() if data["object"].get(name) != earlier.get(name)}
            data["previous_attributes"] = {name: earlier.get(name) for name in sorted(changed)}
        for event_type in types:
            event: Shown = {
                "id": f"evt_1{token('event', source, shown['id'], event_type)[:23]}",
                "object": "event",
                "api_version": OWN_VERSION,
                "created": at,
                "data": data,
                "livemode": False,
                "pending_webhooks": 0,
                "request": {"id": None, "idempotency_key": None},
                "type": event_type,
            }
            self._shelves["event"].put(event["id"], event, created=at)


class Books:
    """The books have an account for each sync of Stripe in the stream, in the order of their first records."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    @property
    def accounts(self) -> tuple[Account, ...]:
        """These are the accounts, and one without anything where there is none yet."""
        return tuple(self._accounts.values()) or (Account(1),)

    def name_accounts(self, syncs: Iterable[SyncInfo]) -> None:
        """Names the account of each sync of Stripe, and puts these first; the others are connected to the first account."""
        named: dict[str, Account] = {}
        for sync in syncs:
            if sync.provider == PROVIDER:
                named[sync.id] = account = self._accounts.pop(sync.id, None) or Account(0)
                account.name = sync.name
        self._accounts = named | self._accounts
        for number, account in enumerate(self._accounts.values(), 1):
            account.number = number
        platform, *connected = self.accounts
        for account in connected:
            platform.shelf("account").put(account.id, account.described(), created=OPENED)

    def take(self, entry: Entry) -> None:
        """Takes in the next version of the stream; whatever is no record of Stripe is left out."""
        if entry.sync_id is None or entry.collection_id is None or not entry.collection_id.startswith(f"{PROVIDER}:"):
            return
        try:
            record = _decoder.decode(entry.body)
        except msgspec.MsgspecError:
            return
        at = self._clock.told(record.inserted_at)
        account = self._accounts.setdefault(entry.sync_id, Account(len(self._accounts) + 1))
        kind = record.collection_id.partition(":")[2]
        account.apply(kind, record.upstream_id, record.data, deleted=record.deleted, at=at, source=entry.position)

    def forget_events(self) -> None:
        """Takes out the events that Stripe would have forgotten by now."""
        now = self._clock.second()
        for account in self._accounts.values():
            account.forget_events(now)
