"""This module reads the parameters of a list and answers it: which objects, in which order, how many, and what is refused."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sequin_pipeline.sandbox.stripe.books import Account
from sequin_pipeline.sandbox.stripe.refusals import StripeError, missing, refused_parameter
from sequin_pipeline.sandbox.stripe.shelf import Bounds, Page, Shown
from sequin_pipeline.sources.stripe.objects import LISTABLE, Listable

Params = Sequence[tuple[str, str]]
Takes = Callable[[Shown], bool]

DEFAULT_LIMIT, MAX_LIMIT = 10, 100
MAX_TYPES = 20
NEVER = 2**60

PAGING = frozenset({"limit", "starting_after", "ending_before", "expand", "expand[]"})
_CREATED = re.compile(r"created(?:\[(gte|gt|lte|lt)\])?")

FILTERS: Mapping[str, frozenset[str]] = {
    "balance_transaction": frozenset({"currency", "source", "type"}),
    "charge": frozenset({"customer", "payment_intent"}),
    "customer": frozenset({"email", "test_clock"}),
    "event": frozenset({"type", "types[]"}),
    "invoice": frozenset({"collection_method", "customer", "status", "subscription"}),
    "invoiceitem": frozenset({"customer", "invoice"}),
    "payment_intent": frozenset({"customer"}),
    "plan": frozenset({"active", "product"}),
    "price": frozenset({"active", "currency", "product", "type"}),
    "product": frozenset({"active", "shippable"}),
    "quote": frozenset({"customer", "status", "test_clock"}),
    "subscription": frozenset({"collection_method", "customer", "price", "status", "test_clock"}),
}
"""These parameters choose among the objects of a class, by the field of that name where nothing else is said below."""

WITH_STATUS = frozenset({status.name for status in LISTABLE.values() if ("status", "all") in status.params})

ENDED = ("canceled", "incomplete_expired")


@dataclass(frozen=True)
class ListQuery:
    """This value is what a list was asked for."""

    takes: Takes
    bounds: Bounds
    limit: int
    after: str | None
    before: str | None


def read_list_query(listable: Listable, params: Params, *, max_limit: int) -> ListQuery:
    """Reads the parameters of a list; raises StripeError for one that this list does not take, or that cannot be read."""
    filters = FILTERS.get(listable.name, frozenset()) | (frozenset({"status"}) if listable.name in WITH_STATUS else frozenset())
    for name, _ in params:
        if name not in PAGING and name not in filters and not (listable.filters_created and _CREATED.fullmatch(name)):
            raise StripeError(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    asked = dict(params)
    limit, after, before = read_paging(asked, max_limit=max_limit)
    takes = _chosen_types(params) if listable.name == "event" else _chosen(listable.name, filters, asked)
    return ListQuery(takes, _bounds(asked), limit, after, before)


def read_paging(asked: Mapping[str, str], *, max_limit: int) -> tuple[int, str | None, str | None]:
    """Returns how many objects were asked for, and behind or in front of which; raises StripeError."""
    limit = _whole(asked, "limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise refused_parameter("limit", f"must be from 1 to {MAX_LIMIT}", code="parameter_invalid_integer")
    after, before = asked.get("starting_after"), asked.get("ending_before")
    if after is not None and before is not None:
        raise refused_parameter("ending_before", "cannot be used together with starting_after")
    return min(limit, max_limit), after, before


def page_of(account: Account, listable: Listable, query: ListQuery) -> Page:
    """Returns the page; raises StripeError where the object that it is to follow, or to precede, is not there."""
    shelf = account.shelf(listable.name)
    for param, object_id in (("starting_after", query.after), ("ending_before", query.before)):
        if object_id is not None and shelf.get(object_id) is None:
            raise missing(listable.name, object_id, status=400, param=param)
    return shelf.page(query.takes, limit=query.limit, bounds=query.bounds, after=query.after, before=query.before)


def page_within(elements: Sequence[Shown], params: Params, *, max_limit: int) -> Page:
    """Returns the page of a list within an object, whose elements keep their order; raises StripeError."""
    limit, after, before = read_paging(dict(params), max_limit=max_limit)
    ids = [element.get("id") for element in elements]
    for param, object_id in (("starting_after", after), ("ending_before", before)):
        if object_id is not None and object_id not in ids:
            raise missing("line", object_id, status=400, param=param)
    if before is not None:
        end = ids.index(before)
        return Page(list(elements[max(0, end - limit) : end]), end > limit)
    start = 0 if after is None else ids.index(after) + 1
    return Page(list(elements[start : start + limit]), len(elements) > start + limit)


def _chosen_types(params: Params) -> Takes:
    types = [value for name, value in params if name == "types[]"]
    patterns = [value for name, value in params if name == "type"]
    if types and patterns:
        raise refused_parameter("types[]", "cannot be used together with type")
    if len(types) > MAX_TYPES:
        raise refused_parameter("types[]", f"takes at most {MAX_TYPES} names")
    if types:
        return lambda event: event["type"] in types
    return lambda event: all(fnmatchcase(event["type"], pattern) for pattern in patterns)


def _chosen(kind: str, filters: frozenset[str], asked: Mapping[str, str]) -> Takes:
    wanted = {name: asked[name] for name in filters if name in asked}
    conditions = [_status(wanted.pop("status", None), kind)]
    if kind == "price":  # only active ones are listed, unless the others are asked for
        wanted.setdefault("active", "true")
    if "test_clock" in wanted:
        raise refused_parameter("test_clock", f"No such testclock: {wanted['test_clock']!r}", code="resource_missing")
    if "price" in wanted:
        conditions.append(_with_price(wanted.pop("price")))
    conditions += [_equal(name, text) for name, text in wanted.items()]
    return lambda shown: all(condition(shown) for condition in conditions)


def _equal(name: str, text: str) -> Takes:
    if name not in ("active", "shippable"):
        return lambda shown: shown.get(name) == text
    if text not in ("true", "false"):
        raise refused_parameter(name, f"{text!r} is neither true nor false", code="parameter_invalid_boolean")
    return lambda shown: shown.get(name, True) is (text == "true")


def _status(text: str | None, kind: str) -> Takes:
    if text == "all" and kind in WITH_STATUS:
        return lambda shown: True
    if text == "ended" and kind == "subscription":
        return lambda shown: shown.get("status") in ENDED
    if text is not None:
        return lambda shown: shown.get("status") == text
    return lambda shown: kind != "subscription" or shown.get("status") not in ENDED


def _with_price(price_id: str) -> Takes:
    return lambda shown: any(item.get("price", {}).get("id") == price_id for item in shown["items"]["data"])


def _bounds(asked: Mapping[str, str]) -> Bounds:
    if "created" in asked:
        second = _whole(asked, "created", 0)
        return Bounds(second, second + 1)
    lower = max(_whole(asked, "created[gte]", 0), _whole(asked, "created[gt]", -1) + 1)
    upper = min(_whole(asked, "created[lt]", NEVER), _whole(asked, "created[lte]", NEVER) + 1)
    return Bounds(lower, upper)


def _whole(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise refused_parameter(name, f"{text!r} is no whole number", code="parameter_invalid_integer")
    return int(text)
