"""This module says what follows from an object of the population at Stripe.

That is other objects, events that tell of it, and what becomes of it when it is deleted. The population holds what a business
has; Stripe also has a balance transaction and a payment intent for each charge, and an invoice item for each extra line of an
invoice. All of it follows from the object alone.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sequin_pipeline.sandbox.stripe.shelf import Shown

ITEMIZED_FROM = 38
"""An invoice over this many seats has extra lines, more than an answer holds at once: fewer would never show the rest of a list."""

FEWEST_EXTRA_LINES, MOST_EXTRA_LINES = 15, 40

DAY_SECONDS = 86_400

TIMES = {"invoiceitem": "date"}
"""This is the field that tells the creation of a class, where it is not `created`."""

EVENT_PREFIXES = {
    "dispute": "charge.dispute",
    "subscription": "customer.subscription",
    **{f"issuing.{name}": f"issuing_{name}" for name in ("authorization", "card", "cardholder", "dispute", "transaction")},
}
"""These classes have another name in events than in `object`."""

UNTOLD = frozenset({"balance_transaction", "event"})
"""No event tells of these classes."""


def token(*parts: object) -> str:
    """Returns characters for an id that are the same for the same parts."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(errors="backslashreplace"), digest_size=12).hexdigest()


def as_shown(kind: str, data: Mapping[str, Any]) -> Shown:
    """Returns the population's object as a Stripe account in test mode has it."""
    shown: Shown = _in_test_mode(data)
    return _itemized(shown) if kind == "invoice" else shown


def _in_test_mode(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: False if name == "livemode" else _in_test_mode(value) for name, value in node.items()}
    return [_in_test_mode(value) for value in node] if isinstance(node, list) else node


def _itemized(invoice: Shown) -> Shown:
    """Returns the invoice with extra lines where it has one line of very many seats; the sum of all lines stays."""
    lines = invoice.get("lines")
    if not isinstance(lines, dict):
        return invoice
    elements = lines.get("data")
    if not (isinstance(elements, list) and len(elements) == 1 and isinstance(elements[0], dict) and "invoice" not in elements[0]):
        return invoice
    line = {
        **elements[0],
        "invoice": invoice.get("id"),
        "livemode": False,
        "metadata": {},
        "proration": False,
        "subscription": invoice.get("subscription"),
        "tax_amounts": [],
        "type": "subscription",
    }
    quantity, amount = line.get("quantity"), line.get("amount")
    if not (isinstance(quantity, int) and isinstance(amount, int) and quantity >= ITEMIZED_FROM):
        return {**invoice, "lines": {**lines, "data": [line]}}
    extra = [_extra_line(line, amount // 100, number) for number in range(_extra_lines(quantity))]
    line["amount"] = amount - sum(each["amount"] for each in extra)
    return {**invoice, "lines": {**lines, "data": [line, *extra]}}


def _extra_lines(quantity: int) -> int:
    return min(MOST_EXTRA_LINES, FEWEST_EXTRA_LINES + quantity - ITEMIZED_FROM)


def _extra_line(line: Shown, amount: int, number: int) -> Shown:
    made = token(line["invoice"], number)
    return {
        **line,
        "id": f"il_2{made[:23]}",
        "amount": amount,
        "description": f"Usage, part {number + 1}",
        "invoice_item": f"ii_1{made[:23]}",
        "quantity": 1,
        "type": "invoiceitem",
    }


def derived(shown: Shown) -> Iterator[Shown]:
    """Yields the objects that exist because of this one, each of another class."""
    match shown.get("object"):
        case "invoice":
            lines = shown.get("lines")
            for line in lines["data"] if isinstance(lines, dict) else ():
                if isinstance(line, dict) and line.get("type") == "invoiceitem" and line.get("invoice_item"):
                    yield _invoiceitem(shown, line)
        case "charge" if isinstance(shown.get("amount"), int):
            if shown.get("balance_transaction"):
                yield _balance_transaction(shown)
            if shown.get("payment_intent"):
                yield _payment_intent(shown)


def _invoiceitem(invoice: Shown, line: Shown) -> Shown:
    return {
        "id": line["invoice_item"],
        "object": "invoiceitem",
        "amount": line["amount"],
        "currency": line.get("currency"),
        "customer": invoice.get("customer"),
        "date": invoice.get("created"),
        "description": line.get("description"),
        "discountable": True,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": {},
        "period": line.get("period"),
        "price": line.get("price"),
        "proration": False,
        "quantity": line.get("quantity"),
        "subscription": invoice.get("subscription"),
        "tax_rates": [],
        "test_clock": None,
        "unit_amount": line["amount"],
        "unit_amount_decimal": str(line["amount"]),
    }


def _balance_transaction(charge: Shown) -> Shown:
    fee = charge["amount"] * 29 // 1000 + 30
    details = {
        "amount": fee,
        "application": None,
        "currency": charge.get("currency"),
        "description": "Stripe processing fees",
        "type": "stripe_fee",
    }
    return {
        "id": charge["balance_transaction"],
        "object": "balance_transaction",
        "amount": charge["amount"],
        "available_on": charge["created"] + 2 * DAY_SECONDS,
        "created": charge["created"],
        "currency": charge.get("currency"),
        "description": charge.get("description"),
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [details],
        "net": charge["amount"] - fee,
        "reporting_category": "charge",
        "source": charge["id"],
        "status": "available",
        "type": "charge",
    }


def _payment_intent(charge: Shown) -> Shown:
    has_failed = charge.get("status") == "failed"
    return {
        "id": charge["payment_intent"],
        "object": "payment_intent",
        "amount": charge["amount"],
        "amount_capturable": 0,
        "amount_received": 0 if has_failed else charge["amount"],
        "canceled_at": None,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "created": charge["created"],
        "currency": charge.get("currency"),
        "customer": charge.get("customer"),
        "description": charge.get("description"),
        "invoice": charge.get("invoice"),
        "latest_charge": charge["id"],
        "livemode": False,
        "metadata": {},
        "payment_method": None if has_failed else charge.get("payment_method"),
        "payment_method_types": ["card"],
        "receipt_email": charge.get("receipt_email"),
        "status": "requires_payment_method" if has_failed else "succeeded",
    }


def event_types(kind: str, before: Shown | None, shown: Shown) -> tuple[str, ...]:
    """Returns the types of the events that tell of the object being created, or changed from `before`."""
    if kind in UNTOLD:
        return ()
    prefix = EVENT_PREFIXES.get(kind, kind)
    if kind == "charge":
        if before is None:
            return ("charge.failed" if shown.get("status") == "failed" else "charge.succeeded",)
        is_refunded = (shown.get("amount_refunded") or 0) > (before.get("amount_refunded") or 0)
        return ("charge.refunded" if is_refunded else "charge.updated",)
    if before is None:
        paid = ("payment_intent.succeeded",) if kind == "payment_intent" and shown.get("status") == "succeeded" else ()
        return (f"{prefix}.created", *paid)
    if kind == "subscription" and shown.get("status") == "canceled" != before.get("status"):
        return (f"{prefix}.deleted",)
    was_paid = kind == "invoice" and shown.get("status") == "paid" != before.get("status")
    return (f"{prefix}.updated", *(("invoice.paid",) if was_paid else ()))


def deletion_type(kind: str) -> tuple[str, ...]:
    """Returns the type of the event that tells of a deletion."""
    return () if kind in UNTOLD else (f"{EVENT_PREFIXES.get(kind, kind)}.deleted",)


def _canceled(subscription: Shown, second: int) -> Shown:
    if subscription.get("status") == "canceled":
        return subscription
    return {**subscription, "canceled_at": second, "ended_at": second, "status": "canceled"}


def _refunded(charge: Shown, second: int) -> Shown:
    captured = charge.get("amount_captured") or 0
    return {**charge, "amount_refunded": captured, "refunded": captured > 0}


KEPT: Mapping[str, Callable[[Shown, int], Shown]] = {"charge": _refunded, "subscription": _canceled}
"""Stripe never deletes objects of these classes: a subscription is canceled, a charge given back."""
