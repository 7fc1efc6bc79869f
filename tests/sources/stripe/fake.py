"""What localstripe lacks, in a small server that keeps to Stripe's documentation: lists newest first with bounds for `created` where they
take them, a cursor that is refused once its object is gone, lists within objects in pages, what is left out unless it is asked for,
patterns of events, an account, keys without rights, a clock of its own, and the faults of the sandbox."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sequin_pipeline.sandbox.damage import refusal, sent_wrongly, with_wrong_content
from sequin_pipeline.sandbox.faults import CONTENT_FAULTS, WIRE_FAULTS, Fault, FaultSchedule
from sequin_pipeline.sandbox.server import running_app
from sequin_pipeline.sources.stripe.objects import LISTABLE, TEST_CLOCKS

START = 1_770_000_000
LINES_AT_ONCE = 10
ANSWER_SECONDS = 0.002
"""As long as every answer takes, so that requests meet."""
Object = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]


@dataclass
class FakeStripe:
    """Objects by kind and id, and events; a test moves `now`, sets `faults` as docs/sandbox.md names them, and decides which requests
    are answered otherwise: by what `instead` has for a path. A page of a list holds at most `page_records`."""

    now: int = START
    account: str = "acct_1"
    api_version: str = "2025-03-31.basil"
    kinds: dict[str, dict[str, Object]] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    lines: dict[str, list[Object]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    deleted_customers: set[str] = field(default_factory=set)
    faults: FaultSchedule = field(default_factory=FaultSchedule)
    instead: dict[str, object] = field(default_factory=dict)
    page_records: int = 100
    refused_keys: set[str] = field(default_factory=set)
    denied: dict[str, set[str]] = field(default_factory=dict)
    forgets_cursors: bool = False
    most_at_once: int = 0
    at_once: int = 0
    url: str = ""

    def put(self, kind: str, object_id: str, *, event: str | None = None, created: int | None = None, **values: Any) -> Object:
        """Creates or changes an object, with the time of its creation in the field that its class has for it; `event` tells of it."""
        path = PATHS[kind]
        known = self.kinds.setdefault(path, {})
        time = {} if kind in TIMELESS else {TIME_FIELDS.get(kind, "created"): self.now if created is None else created}
        earlier = known.get(object_id, {"id": object_id, "object": kind, **time})
        known[object_id] = {**earlier, **values}
        self._tell(event, known[object_id])
        return known[object_id]

    def remove(self, kind: str, object_id: str, *, event: str | None = None) -> None:
        self._tell(event, self.kinds[PATHS[kind]].pop(object_id))
        if kind == "customer":  # the one class whose deleted objects can still be asked for
            self.deleted_customers.add(object_id)

    def listed(self, kind: str) -> dict[str, Object]:
        return dict(self.kinds.get(PATHS[kind], {}))

    def paths_asked(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def _tell(self, event: str | None, about: Object) -> None:
        if event is not None:
            number = len(self.events)
            self.events.append(
                {
                    "id": f"evt_{number:06}",
                    "object": "event",
                    "type": event,
                    "created": self.now,
                    "api_version": self.api_version,
                    "data": {"object": dict(about)},
                }
            )

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def serve(self, request: Request) -> Response:
        asked = Asked(request.url.path, tuple(parse_qsl(request.url.query)), dict(request.headers))
        self.asked.append(asked)
        fault = self.faults.strike(asked.path, None)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(ANSWER_SECONDS)
        self.at_once -= 1
        response = self._answered(asked, fault)
        if fault and fault.kind in CONTENT_FAULTS:
            response = with_wrong_content(fault, response)
        response.headers["date"] = format_datetime(self.clock(), usegmt=True)
        return sent_wrongly(fault, response) if fault and fault.kind in WIRE_FAULTS else response

    def _answered(self, asked: Asked, fault: Fault | None) -> Response:
        if fault and fault.kind == "status":
            return refusal(fault, self.clock())
        if fault and fault.kind == "empty-page":
            return JSONResponse({"object": "list", "data": [], "has_more": True})
        status, body = (200, self.instead[asked.path]) if asked.path in self.instead else self.answer(asked)
        return JSONResponse(body, status)

    def answer(self, asked: Asked) -> tuple[int, Object]:
        query = dict(asked.query)
        key = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if key in self.refused_keys:
            return 401, {"error": {"message": f"Invalid API Key provided: {key}"}}
        if asked.path in self.denied.get(key, ()):
            return 403, _error("The provided key does not have the required permissions for this endpoint")
        if asked.path == "/v1/account":
            return 200, {"id": asked.headers.get("stripe-account", self.account), "object": "account"}
        if asked.path == "/v1/events":
            types = [value for name, value in asked.query if name in ("type", "types[]")]
            found = [each for each in self.events if not types or any(fnmatchcase(each["type"], one) for one in types)]
            return self._page(found, query)
        parent, _, last = asked.path.rpartition("/")
        if last == "lines":
            return self._page(self.lines[parent.rpartition("/")[2]], query, keeps_order=True)
        if asked.path == "/v1/subscription_items":
            if query.get("subscription") not in self.lines:
                return 400, _error("Missing required param: subscription.")
            return self._page(self.lines[query["subscription"]], query, keeps_order=True)
        if parent == "/v1/events":
            return _one([each for each in self.events if each["id"] == last])
        if asked.path in UNBOUNDED and any(name.startswith("created") for name in query):
            return 400, _error("Received unknown parameter: created")
        if asked.path in self.kinds or asked.path in PATHS.values():
            if self.forgets_cursors:
                query.pop("starting_after", None)
            shown = [self._shown(each, asked, prefix="data.") for each in self.kinds.get(asked.path, {}).values()]
            if asked.path == PATHS["price"]:  # lists active ones, unless it is asked for the others
                shown = [each for each in shown if each.get("active", True) == (query.get("active", "true") == "true")]
            if asked.path in CLOCKED:  # lists what is on no test clock, unless it is asked for one
                shown = [each for each in shown if each.get("test_clock") == query.get("test_clock")]
                if "test_clock" in query and query["test_clock"] not in self.kinds.get(PATHS[TEST_CLOCKS], {}):
                    return 400, _error(f"No such testclock: '{query['test_clock']}'")
            return self._page(shown, query)
        if parent == PATHS["customer"] and last in self.deleted_customers:
            return 200, {"id": last, "object": "customer", "deleted": True}
        return _one([self._shown(each, asked) for each in self.kinds.get(parent, {}).values() if each["id"] == last])

    def _shown(self, each: Object, asked: Asked, *, prefix: str = "") -> Object:
        expanded = [value.removeprefix(prefix) for name, value in asked.query if name == "expand[]"]
        each = {name: value for name, value in each.items() if name not in LEFT_OUT or name in expanded}
        if each["id"] not in self.lines:
            return each
        lines = self.lines[each["id"]]
        name, url = NESTED[each["object"]]
        more = {"has_more": len(lines) > LINES_AT_ONCE, "url": url.format(each["id"])}
        return {**each, name: {"object": "list", "data": lines[:LINES_AT_ONCE], **more}}

    def _page(self, found: list[Object], query: dict[str, str], *, keeps_order: bool = False) -> tuple[int, Object]:
        ordered = found if keeps_order else sorted(found, key=lambda each: (_created(each), each["id"]), reverse=True)
        after = query.get("starting_after")
        ids = [each["id"] for each in ordered]
        if after is not None and after not in ids:
            return 400, _error(f"No such object: {after!r}")
        rest = ordered[ids.index(after) + 1 :] if after is not None else ordered
        lower, upper = int(query.get("created[gte]", 0)), int(query.get("created[lt]", 2**60))
        within = [each for each in rest if keeps_order or lower <= _created(each) < upper]
        limit = min(int(query.get("limit", 10)), self.page_records)
        return 200, {"object": "list", "data": within[:limit], "has_more": len(within) > limit}


TIME_FIELDS = {"invoiceitem": "date"}

TIMELESS = {
    "billing.alert",
    "climate.supplier",
    "country_spec",
    "entitlements.feature",
    "exchange_rate",
    "issuing.physical_bundle",
    "payment_link",
    "payment_method_configuration",
    "reporting.report_type",
    "tax_code",
    "terminal.configuration",
    "terminal.location",
    "terminal.reader",
}
"""Classes without a time of creation: so are the resources of Stripe's own library, 12.0.0 at this API version and 16.1.0."""

PATHS = {
    "balance_transaction": "/v1/balance_transactions",
    "checkout.session": "/v1/checkout/sessions",
    "customer": "/v1/customers",
    "account": "/v1/accounts",
    "invoice": "/v1/invoices",
    "invoiceitem": "/v1/invoiceitems",
    **{kind: LISTABLE[kind].path for kind in TIMELESS},
    "price": "/v1/prices",
    "product": "/v1/products",
    "review": "/v1/reviews",
    "subscription": "/v1/subscriptions",
    TEST_CLOCKS: "/v1/test_helpers/test_clocks",
}

NESTED = {
    "invoice": ("lines", "/v1/invoices/{}/lines"),
    "subscription": ("items", "/v1/subscription_items?limit=10&subscription={}&x="),
}
"""The list within such an object, and where the rest of it is."""

CLOCKED = {"/v1/customers", "/v1/quotes", "/v1/subscriptions"}

LEFT_OUT = {"applies_to", "line_items", "tiers"}
"""Fields that Stripe shows to those who ask for them."""

UNBOUNDED = {
    "/v1/apple_pay/domains",
    "/v1/billing/alerts",
    "/v1/billing/credit_grants",
    "/v1/billing/meters",
    "/v1/billing_portal/configurations",
    "/v1/climate/orders",
    "/v1/climate/products",
    "/v1/climate/suppliers",
    "/v1/country_specs",
    "/v1/entitlements/features",
    "/v1/exchange_rates",
    "/v1/financial_connections/accounts",
    "/v1/invoice_payments",
    "/v1/invoice_rendering_templates",
    "/v1/issuing/personalization_designs",
    "/v1/issuing/physical_bundles",
    "/v1/payment_links",
    "/v1/payment_method_configurations",
    "/v1/payment_method_domains",
    "/v1/quotes",
    "/v1/reporting/report_types",
    "/v1/sigma/scheduled_query_runs",
    "/v1/tax/registrations",
    "/v1/tax_codes",
    "/v1/tax_ids",
    "/v1/terminal/configurations",
    "/v1/terminal/locations",
    "/v1/terminal/readers",
    "/v1/test_helpers/test_clocks",
    "/v1/webhook_endpoints",
}
"""Lists without bounds for `created` at this API version, as Stripe's own specification has them."""


def _created(each: Object) -> int:
    """For the order and the bounds of a list; the server knows it also of what does not tell it."""
    told = each.get(TIME_FIELDS.get(each["object"], "created"))
    return told if isinstance(told, int) else START


def _error(message: str) -> Object:
    return {"error": {"type": "invalid_request_error", "message": message}}


def _one(found: list[Object]) -> tuple[int, Object]:
    return (200, found[0]) if found else (404, _error("resource_missing"))


@contextmanager
def fake_stripe() -> Iterator[FakeStripe]:
    fake = FakeStripe()
    app = Starlette(routes=[Route("/{path:path}", fake.serve)])
    with running_app(app, sends_date=False) as fake.url:
        yield fake
