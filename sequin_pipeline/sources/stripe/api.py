"""This module reads what we need of Stripe's API: one account's lists, single objects and events, at one API version.

Objects are handed on as the bytes that came. Requests may be sent from several threads; how they are repeated is in http/client.py.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from sequin_pipeline.catalog import SourceAccount
from sequin_pipeline.sources import NO_COST, PageCost
from sequin_pipeline.sources.http.client import Answer, HttpClient, HttpOptions, Response
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.http.pace import Pace
from sequin_pipeline.sources.http.retries import AskAgain
from sequin_pipeline.sources.stripe.objects import LISTABLE, MAX_EVENT_TYPES, Listable

API_VERSION = "2025-03-31.basil"
"""Every request asks for this version: objects change their form with it, and each account has a default of its own."""

PAGE_SIZE_RECORDS = 100
"""A list gives at most this many objects a page."""

MALFORMED_REPEATS = 6
UNREADABLE = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

_PAGE_PARAMS = frozenset({"limit", "starting_after", "ending_before"})

_HAS_MORE = re.compile(rb'"has_more"\s*:\s*true')

Params = tuple[tuple[str, str], ...]
Value = TypeVar("Value")


class _Head(msgspec.Struct):
    """These fields take any type where another type of value takes nothing away: the object is stored as it came."""

    id: str
    object: Any = None
    created: Any = None
    date: Any = None
    updated: Any = None
    deleted: Any = None


class _Account(msgspec.Struct):
    id: str | None = None


class _List(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool = False


class _EventData(msgspec.Struct):
    object: msgspec.Raw


class _Event(msgspec.Struct):
    id: str
    created: int
    data: _EventData
    api_version: str | None = None


@dataclass(frozen=True)
class StripeObject:
    """This value is one object; `created` and `updated` are seconds since 1970 where it tells them, `raw` is its JSON, nested lists
    whole."""

    id: str
    kind: str
    created: int | None
    updated: int | None
    is_deleted: bool
    raw: bytes = field(repr=False)


@dataclass(frozen=True)
class StripeEvent:
    """An event says that an object was changed in the second `created`, and shows it as it was then, at the account's `api_version`."""

    id: str
    created: int
    api_version: str | None
    object: StripeObject | None = field(repr=False)


@dataclass(frozen=True)
class ListPage:
    """This value is a page of objects in the server's order; `unreadable` is the JSON of what stood among them without an id."""

    objects: tuple[StripeObject, ...]
    unreadable: tuple[bytes, ...] = field(repr=False)
    has_more: bool
    received_at: datetime
    cost: PageCost


@dataclass(frozen=True)
class EventPage:
    """This value is a page of events in the server's order."""

    events: tuple[StripeEvent, ...]
    has_more: bool
    received_at: datetime
    cost: PageCost


class StripeApi:
    """This client reads one account with `key`; connections are kept until `close`."""

    def __init__(
        self, base_url: str, key: str, account: SourceAccount, *, options: HttpOptions, pace: Pace, api_version: str = API_VERSION
    ) -> None:
        self._endpoint = Endpoint(base_url, key, url_variable="STRIPE_API_URL", token_variable=account.key_variable)
        self._headers = {"stripe-version": api_version}
        if account.connected_account:
            self._headers["stripe-account"] = account.connected_account
        self.account = account
        self.api_version = api_version
        self.is_test_mode = key.split("_")[1:2] == ["test"]
        self._options = options
        self._pace = pace
        self._idle: list[HttpClient] = []
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def base_url(self) -> str:
        return self._endpoint.base_url

    def now(self) -> datetime:
        """Returns our own time, for what no answer dates."""
        return self._options.now()

    def close(self) -> None:
        """Closes idle connections; a request under way closes its own connection when it ends."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    def list_page(self, listable: Listable, params: Params = (), *, limit: int = PAGE_SIZE_RECORDS) -> ListPage:
        """Reads one page of a list; raises StatusRefused where `starting_after` names an object that no longer exists."""
        purpose = f"listing stripe:{listable.name} of sync {self.account.name!r}"
        expand = tuple(("expand[]", f"data.{name}") for name in listable.expand)
        answer = self._get(listable.path, (*listable.params, *expand, ("limit", str(limit)), *params), _list, purpose=purpose)
        objects, unreadable, cost = [], [], answer.cost
        for raw in map(bytes, answer.value.data):
            found = _object_if_any(raw)
            if found is None:
                unreadable.append(raw)
                continue
            whole, completing = self._whole(found, purpose=purpose)
            cost += completing
            objects.append(whole)
        return ListPage(tuple(objects), tuple(unreadable), answer.value.has_more, answer.received_at, cost)

    def retrieve(self, listable: Listable, object_id: str) -> tuple[StripeObject | None, PageCost]:
        """Returns the object as it is now, or None when it no longer exists."""
        purpose = f"reading stripe:{listable.name} {object_id!r} of sync {self.account.name!r}"
        expand = tuple(("expand[]", name) for name in listable.expand)
        path = f"{listable.path}/{quote(object_id, safe='')}"
        try:
            answer = self._get(path, expand, _object, purpose=purpose)
        except StatusRefused as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            return None, PageCost()
        found, completing = self._whole(answer.value, purpose=purpose)
        return (None if found.is_deleted else found), answer.cost + completing

    def event_page(self, listable: Listable, params: Params = (), *, limit: int = PAGE_SIZE_RECORDS) -> EventPage:
        """Reads one page of the events about such objects, and about others where the server does not filter them."""
        purpose = f"reading the events of stripe:{listable.name} of sync {self.account.name!r}"
        answer = self._get("/v1/events", (*_event_filter(listable), ("limit", str(limit)), *params), _events, purpose=purpose)
        events, has_more = answer.value
        return EventPage(events, has_more, answer.received_at, answer.cost)

    def has_event(self, event_id: str) -> tuple[bool, PageCost]:
        """Says whether the event still exists."""
        purpose = f"looking for event {event_id!r} of sync {self.account.name!r}"
        try:
            answer = self._get(f"/v1/events/{quote(event_id, safe='')}", (), _object, purpose=purpose)
        except StatusRefused as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            return False, PageCost()
        return True, answer.cost

    def account_id(self) -> tuple[str | None, PageCost]:
        """Returns the id of the account that the key belongs to, or None where the key may not ask or the server cannot say."""
        try:
            answer = self._get("/v1/account", (), _account, purpose=f"reading the account of sync {self.account.name!r}")
        except StatusRefused as refusal:
            if refusal.status in UNREADABLE:
                return None, PageCost()
            raise
        return answer.value.id, answer.cost

    def _get(self, path: str, params: Params, decode: Callable[[bytes], Value], *, purpose: str) -> Answer[Value]:
        """Sends one request; `decode` raises msgspec.DecodeError for a body that is not what was asked for."""

        def read(response: Response) -> Value:
            try:
                return decode(response.body)
            except (msgspec.DecodeError, RecursionError) as error:
                beginning = self._endpoint.excerpt(response.body[:4096].decode(errors="replace"))
                raise AskAgain(
                    f"an answer that is not Stripe's ({error}), beginning with {beginning} (does STRIPE_API_URL name Stripe's API?)",
                    at_most=MALFORMED_REPEATS,
                ) from error

        with self._client() as client:
            return client.get(path, params, purpose=purpose, read=read)

    @contextmanager
    def _client(self) -> Iterator[HttpClient]:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or HttpClient(self._endpoint, self._options, headers=self._headers, pace=self._pace)
        try:
            yield client
        finally:
            with self._lock:
                is_kept = not self._is_closed
                if is_kept:
                    self._idle.append(client)
            if not is_kept:
                client.close()

    def _whole(self, found: StripeObject, *, purpose: str) -> tuple[StripeObject, PageCost]:
        """Returns the object with every page of the lists that it holds."""
        if not _HAS_MORE.search(found.raw):
            return found, NO_COST
        whole = msgspec.json.decode(found.raw)
        cost = self._complete(whole, purpose=purpose)
        return _object(msgspec.json.encode(whole)), cost

    def _complete(self, node: Any, *, purpose: str) -> PageCost:
        """Completes the nested lists in place; `node` is any JSON value."""
        cost = NO_COST
        if isinstance(node, dict):
            if node.get("object") == "list" and node.get("has_more") is True and isinstance(node.get("url"), str):
                cost += self._complete_list(node, purpose=purpose)
            for value in node.values():
                cost += self._complete(value, purpose=purpose)
        elif isinstance(node, list):
            for value in node:
                cost += self._complete(value, purpose=purpose)
        return cost

    def _complete_list(self, nested: dict[str, Any], *, purpose: str) -> PageCost:
        """Completes one nested list; its type is Any because its elements may be anything."""
        elements, cost = list(nested["data"]), NO_COST
        url = _without_paging(nested["url"])
        has_more = True
        while has_more and elements:
            after = elements[-1].get("id")
            params = (("limit", str(PAGE_SIZE_RECORDS)), ("starting_after", str(after)))
            answer = self._get(url, params, _list, purpose=f"{purpose}, the rest of {nested['url']}")
            cost += answer.cost
            elements += [msgspec.json.decode(raw) for raw in answer.value.data]
            has_more = answer.value.has_more and bool(answer.value.data)
        nested |= {"data": elements, "has_more": False}
        return cost


def _without_paging(url: str) -> str:
    """Returns the address of a list without what says which page: the rest of its parameters may say whose list it is."""
    path, _, query = url.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in _PAGE_PARAMS]
    return f"{path}?{urlencode(kept)}" if kept else path


def _event_filter(listable: Listable) -> Params:
    if not listable.filters_events or not listable.events:
        return ()
    if len(listable.events) == 1:
        return (("type", listable.events[0]),)
    return tuple(("types[]", name) for name in listable.events[:MAX_EVENT_TYPES])


_pages = msgspec.json.Decoder(_List)
_heads = msgspec.json.Decoder(_Head)
_event = msgspec.json.Decoder(_Event).decode
_account = msgspec.json.Decoder(_Account).decode


def _list(body: bytes) -> _List:
    page = _pages.decode(body)
    if page.has_more and not page.data:
        raise msgspec.ValidationError("the page is empty, but more is to come")
    return page


def _object(raw: bytes) -> StripeObject:
    """Reads an object; raises msgspec.DecodeError for one without an id: an error page in JSON must not be taken for a deleted object."""
    head = _heads.decode(raw)
    kind = head.object if isinstance(head.object, str) else ""
    created = head.date if kind in LISTABLE and LISTABLE[kind].time == "date" else head.created
    return StripeObject(head.id, kind, _second(created), _second(head.updated), head.deleted is True, raw)


def _second(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _object_if_any(raw: bytes) -> StripeObject | None:
    try:
        return _object(raw)
    except msgspec.DecodeError:
        return None


def _events(body: bytes) -> tuple[tuple[StripeEvent, ...], bool]:
    """Returns each event with the object that it shows (None where that has no id), and whether there are more."""
    page = _list(body)
    found = [_event(raw) for raw in page.data]
    return tuple(
        StripeEvent(each.id, each.created, each.api_version, _object_if_any(bytes(each.data.object))) for each in found
    ), page.has_more
