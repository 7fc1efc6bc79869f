"""This app serves Stripe's API under `/v1/`, read-only, for the accounts in the books: one key for each of them.

Every request is counted, meets the faults that were asked for, and the limit of requests a second of its account.
"""

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sequin_pipeline.sandbox.answers import compressed
from sequin_pipeline.sandbox.controls import Controls
from sequin_pipeline.sandbox.damage import asked_to_wait, phrase, sent_wrongly, with_wrong_content
from sequin_pipeline.sandbox.faults import CONTENT_FAULTS, PAGE_FAULTS, WIRE_FAULTS, Fault, FaultSchedule
from sequin_pipeline.sandbox.feeds import Feed
from sequin_pipeline.sandbox.queue_routes import News
from sequin_pipeline.sandbox.request_log import RequestLog
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sandbox.stripe.books import Account, Books
from sequin_pipeline.sandbox.stripe.clock import Clock
from sequin_pipeline.sandbox.stripe.expanding import expanded, read_paths
from sequin_pipeline.sandbox.stripe.forms import NESTED, OWN_VERSION, elements_of, in_form
from sequin_pipeline.sandbox.stripe.keys import account_number
from sequin_pipeline.sandbox.stripe.limits import Allowance
from sequin_pipeline.sandbox.stripe.queries import Params, page_of, page_within, read_list_query
from sequin_pipeline.sandbox.stripe.refusals import StripeError, missing, refusal_answer, refused_parameter
from sequin_pipeline.sandbox.stripe.shelf import Page, Shown
from sequin_pipeline.sources.stripe.objects import LISTABLE, Listable

BY_PATH = {listable.path: listable for listable in LISTABLE.values()}

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?")
_NESTED_PATH = re.compile(r"/v1/invoices/([^/]+)/lines")

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class _Asked:
    """This value is one request: of which account, at which API version, for what."""

    account: Account
    version: str
    path: str
    params: Params
    fault: Fault | None


def build_stripe_app(
    feed: Feed, books: Books, settings: Settings, clock: Clock, *, monotonic: Callable[[], float] = time.monotonic
) -> Starlette:
    """Builds the app; `books` must follow the stream of `feed`, and what requests a second are is told by `monotonic`.

    Raises ConfigurationError for a fault that is not understood.
    """
    schedule, log = FaultSchedule(settings.faults), RequestLog()
    served = _Served(feed, books, settings, clock, schedule=schedule, log=log, monotonic=monotonic)
    controls = Controls(feed, settings, schedule=schedule, log=log, news=News())
    return Starlette(routes=[*controls.routes(), Route("/{path:path}", served.serve, methods=["GET", "POST", "DELETE"])])


class _Served:
    """This class holds what every request goes through, and what answers it."""

    def __init__(
        self,
        feed: Feed,
        books: Books,
        settings: Settings,
        clock: Clock,
        *,
        schedule: FaultSchedule,
        log: RequestLog,
        monotonic: Callable[[], float],
    ) -> None:
        self._feed = feed
        self._books = books
        self._settings = settings
        self._clock = clock
        self._schedule = schedule
        self._log = log
        self._allowance = Allowance(settings.requests_per_second, monotonic)

    async def serve(self, request: Request) -> Response:
        number = self._log.arrived()
        fault = self._schedule.strike(request.url.path, _collection_id(request.url.path))
        if self._settings.delay_ms:
            await asyncio.sleep(self._settings.delay_ms / 1000)
        try:
            if fault and fault.kind == "status":
                raise StripeError(
                    fault.value, phrase(fault.value), code="rate_limit" if fault.value == HTTPStatus.TOO_MANY_REQUESTS else None
                )
            response = self._answered(request, fault)
        except StripeError as error:
            response = refusal_answer(error)
            if fault and fault.kind == "status":
                asked_to_wait(response, fault, self._clock.date())
        response = (
            with_wrong_content(fault, response) if fault and fault.kind in CONTENT_FAULTS else compressed(request, response)
        )
        response.headers["date"] = format_datetime(self._clock.date(), usegmt=True)
        response.headers["request-id"] = f"req_{number:014}"
        self._log.answered(request, number, fault=fault, status=response.status_code, body_bytes=len(response.body))
        return sent_wrongly(fault, response) if fault and fault.kind in WIRE_FAULTS else response

    def _answered(self, request: Request, fault: Fault | None) -> Response:
        self._feed.catch_up()
        self._books.forget_events()
        account = self._account(request)
        if not self._allowance.takes(account.id):
            raise StripeError(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests in a second", code="rate_limit")
        if request.method != "GET":
            raise StripeError(405, "The sandbox is read-only: append records with POST /_sandbox/records")
        version = request.headers.get("stripe-version", OWN_VERSION)
        if not _VERSION.fullmatch(version):
            raise refused_parameter("Stripe-Version", "is no version of the API, such as 2025-03-31.basil")
        params = tuple(parse_qsl(request.url.query, keep_blank_values=True))
        content = self._content(_Asked(account, version, request.url.path, params, fault))
        return Response(_encode(content), headers={"stripe-version": version}, media_type="application/json")

    def _account(self, request: Request) -> Account:
        """Returns the account of the key, or the connected one that the request names; only the first account has others."""
        accounts = self._books.accounts
        number = account_number(_key(request), self._settings.token)
        if number is None or number > len(accounts):
            raise StripeError(401, "This is no API key of the sandbox")
        account = accounts[number - 1]
        named = request.headers.get("stripe-account", account.id)
        for possible in accounts if number == 1 else (account,):
            if possible.id == named:
                return possible
        raise StripeError(403, f"The key has no access to account {named!r}", code="account_invalid")

    def _content(self, asked: _Asked) -> Shown:
        if asked.path == "/v1/account":
            return asked.account.described()
        if asked.path in BY_PATH:
            return self._list(asked, BY_PATH[asked.path])
        within = _NESTED_PATH.fullmatch(asked.path)
        if within:
            return self._list_within(asked, "invoice", within[1])
        if asked.path == "/v1/subscription_items":
            subscription = dict(asked.params).get("subscription")
            if subscription is None:
                raise StripeError(400, "Missing required param: subscription", code="parameter_missing", param="subscription")
            return self._list_within(asked, "subscription", subscription)
        parent, _, object_id = asked.path.rpartition("/")
        if parent not in BY_PATH:
            raise StripeError(404, f"There is nothing at {asked.path}")
        return self._one(asked, BY_PATH[parent], object_id)

    def _list(self, asked: _Asked, listable: Listable) -> Shown:
        if asked.fault and asked.fault.kind == "empty-page":
            return _list_of(asked.path, Page([], has_more=True))
        params = asked.params
        if asked.fault and asked.fault.kind in PAGE_FAULTS:
            params = [(name, value) for name, value in params if name != "starting_after"]
        page = page_of(asked.account, listable, read_list_query(listable, params, max_limit=self._settings.limit_cap))
        paths = read_paths(params, is_list=True)
        return _list_of(asked.path, Page([_formed(asked, shown, paths) for shown in page.objects], page.has_more))

    def _list_within(self, asked: _Asked, kind: str, object_id: str) -> Shown:
        shown = asked.account.shelf(kind).get(object_id)
        if shown is None:
            raise missing(kind, object_id)
        page = page_within(elements_of(shown, asked.version), asked.params, max_limit=self._settings.limit_cap)
        return _list_of(NESTED[kind][1].format(object_id), page)

    def _one(self, asked: _Asked, listable: Listable, object_id: str) -> Shown:
        shown = asked.account.shelf(listable.name).get(object_id)
        if shown is not None:
            return _formed(asked, shown, read_paths(asked.params, is_list=False))
        if listable.name == "customer" and asked.account.has_deleted(listable.name, object_id):
            return {"id": object_id, "object": listable.name, "deleted": True}
        raise missing(listable.name, object_id)


def _formed(asked: _Asked, shown: Shown, paths: list[list[str]]) -> Shown:
    """Returns the object as the answer holds it; events show theirs at the account's own version already."""

    def find(object_id: str) -> Shown | None:
        found = asked.account.find(object_id)
        return None if found is None else in_form(found, asked.version)

    formed = in_form(shown, asked.version)
    for path in paths:
        formed = expanded(formed, path, find)
    return formed


def _list_of(url: str, page: Page) -> Shown:
    return {"object": "list", "data": page.objects, "has_more": page.has_more, "url": url}


def _collection_id(path: str) -> str | None:
    """Returns the collection whose objects a request reads, by which a fault may choose."""
    listable = BY_PATH.get(path) or BY_PATH.get(path.rpartition("/")[0])
    return f"stripe:{listable.name}" if listable else None


def _key(request: Request) -> str:
    """Returns the key that a request sends as a bearer token, or as the user of basic authentication, as `curl -u KEY:` does."""
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return sent.strip() if scheme.lower() == "bearer" else ""
    try:
        return base64.b64decode(sent, validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return ""
