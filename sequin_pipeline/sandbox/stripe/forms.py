"""This module shows an object in the form of an API version: objects changed their form with 2025-03-31.basil.

The population's objects have the form of before. What an object does not have is not made up, so that one in the newer form, as a
test may append it, stays as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sequin_pipeline.sandbox.stripe.shelf import Shown

OWN_VERSION = "2024-06-20"
"""This is the accounts' own API version: events are written at it, and answers to whoever asks for none."""

BASIL = "2025-03-31"

EMBEDDED = 10
"""An answer holds this many elements of a list within an object; the rest is at the list's own address."""

NESTED: Mapping[str, tuple[str, str]] = {
    "invoice": ("lines", "/v1/invoices/{}/lines"),
    "subscription": ("items", "/v1/subscription_items?subscription={}"),
}
"""This is the list within objects of a class, and its address for an object's id."""


def in_form(shown: Shown, version: str) -> Shown:
    """Returns the object as an answer at that version holds it; changes nothing in `shown`."""
    kind = shown.get("object", "")
    formed = FORMS[kind](shown) if version[:10] >= BASIL and kind in FORMS else shown
    if kind in NESTED:
        name, address = NESTED[kind]
        nested = formed.get(name)
        if isinstance(nested, dict) and isinstance(nested.get("data"), list):
            formed = {**formed, name: _beginning(nested["data"], address.format(shown["id"]))}
    return formed


def elements_of(shown: Shown, version: str) -> list[Any]:
    """Returns all elements of the list within the object, in the form of that version."""
    kind = shown["object"]
    formed = FORMS[kind](shown) if version[:10] >= BASIL and kind in FORMS else shown
    nested = formed.get(NESTED[kind][0])
    return list(nested["data"]) if isinstance(nested, dict) and isinstance(nested.get("data"), list) else []


def _beginning(elements: list[Any], url: str) -> Shown:
    return {"object": "list", "data": elements[:EMBEDDED], "has_more": len(elements) > EMBEDDED, "url": url}


def _without(shown: Shown, *names: str) -> Shown:
    return {name: value for name, value in shown.items() if name not in names}


def _with_elements(shown: Shown, name: str, form: Callable[[Shown], Shown]) -> Shown:
    """Returns the object with each element of the list within it in the newer form."""
    nested = shown.get(name)
    if not isinstance(nested, dict) or not isinstance(nested.get("data"), list):
        return shown
    elements = [form(element) if isinstance(element, dict) else element for element in nested["data"]]
    return {**shown, name: {**nested, "data": elements}}


def _price(price: Shown) -> Shown:
    if not isinstance(price.get("recurring"), dict):
        return price
    return {**price, "recurring": _without(price["recurring"], "aggregate_usage")}


def _subscription(subscription: Shown) -> Shown:
    """Moves the period into the items, which have it already."""
    formed = _without(subscription, "current_period_end", "current_period_start")
    return _with_elements(formed, "items", _item)


def _item(item: Shown) -> Shown:
    return {**item, "price": _price(item["price"])} if isinstance(item.get("price"), dict) else item


def _invoice(invoice: Shown) -> Shown:
    formed = _without(invoice, "subscription", "paid", "tax")
    if "subscription" in invoice:
        details = {"metadata": invoice.get("metadata"), "subscription": invoice["subscription"]}
        formed["parent"] = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
    if "tax" in invoice:
        formed["total_taxes"] = [_tax(invoice["tax"], invoice.get("subtotal"))] if invoice["tax"] else []
    return _with_elements(formed, "lines", _line)


def _tax(amount: int, taxable: int | None) -> Shown:
    return {
        "amount": amount,
        "tax_behavior": "exclusive",
        "taxability_reason": "standard_rated",
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }


def _line(line: Shown) -> Shown:
    if "type" not in line:
        return line
    details = {"proration": False, "subscription": line.get("subscription")}
    if line["type"] == "invoiceitem":
        kind, details = "invoice_item_details", {"invoice_item": line.get("invoice_item"), **details}
    else:
        kind, details = "subscription_item_details", {**details, "subscription_item": line.get("subscription_item")}
    formed = _without(line, "invoice_item", "price", "proration", "subscription_item", "tax_amounts", "tax_rates", "type")
    parent = {"invoice_item_details": None, "subscription_item_details": None, "type": kind, kind: details}
    return {**formed, "parent": parent, "pricing": _pricing(line), "taxes": []}


def _invoiceitem(item: Shown) -> Shown:
    if "price" not in item:
        return item
    formed = _without(item, "price", "subscription", "unit_amount", "unit_amount_decimal")
    return {**formed, "parent": None, "pricing": _pricing(item)}


def _pricing(priced: Shown) -> Shown | None:
    price = priced.get("price")
    if not isinstance(price, dict):
        return None
    details = {"price": price.get("id"), "product": price.get("product")}
    return {"price_details": details, "type": "price_details", "unit_amount_decimal": priced.get("unit_amount_decimal")}


def _charge(charge: Shown) -> Shown:
    return _without(charge, "invoice")


FORMS: Mapping[str, Callable[[Shown], Shown]] = {
    "charge": _charge,
    "invoice": _invoice,
    "invoiceitem": _invoiceitem,
    "payment_intent": _charge,
    "price": _price,
    "subscription": _subscription,
}
"""These are the forms since 2025-03-31.basil by class; the others have not changed."""
