"""This module makes what a Stripe account bills: subscriptions, their invoices, and the charges that pay them."""

from collections.abc import Sequence
from datetime import datetime

from sequin_pipeline.sandbox.dice import Dice
from sequin_pipeline.sandbox.objects import JsonObject, Lifetime, words
from sequin_pipeline.sandbox.objects.account import Account
from sequin_pipeline.sandbox.objects.stripe_shop import address, seconds

MONTH_SECONDS = 30 * 86_400


def _list(url: str, items: Sequence[object]) -> JsonObject:
    return {"object": "list", "data": items, "has_more": False, "total_count": len(items), "url": url}


def make_subscription(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    price, customer = account.pick("price", dice), account.pick("customer", dice)
    subscription_id, created = f"sub_1{dice.token(23)}", seconds(life.created_at)
    period_start = seconds(life.updated_at) - dice.below(MONTH_SECONDS)
    status = dice.pick(("active", "active", "active", "active", "trialing", "past_due", "canceled", "unpaid"))
    item = {
        "id": f"si_{dice.token(14)}",
        "object": "subscription_item",
        "created": created,
        "current_period_end": period_start + MONTH_SECONDS,
        "current_period_start": period_start,
        "metadata": {},
        "price": price,
        "quantity": dice.between(1, 40),
        "subscription": subscription_id,
        "tax_rates": [],
    }
    return {
        "id": subscription_id,
        "object": "subscription",
        "automatic_tax": {"enabled": dice.chance(0.5), "liability": None},
        "billing_cycle_anchor": created,
        "cancel_at": None,
        "cancel_at_period_end": dice.chance(0.05),
        "canceled_at": seconds(life.updated_at) if status == "canceled" else None,
        "collection_method": dice.pick(("charge_automatically", "send_invoice")),
        "created": created,
        "currency": price["currency"],
        "current_period_end": period_start + MONTH_SECONDS,
        "current_period_start": period_start,
        "customer": customer["id"],
        "days_until_due": None,
        "default_payment_method": dice.maybe(0.5, f"pm_1{dice.token(23)}"),
        "ended_at": seconds(life.updated_at) if status == "canceled" else None,
        "items": _list(f"/v1/subscription_items?subscription={subscription_id}", [item]),
        "latest_invoice": f"in_1{dice.token(23)}",
        "livemode": True,
        "metadata": {"order": f"{account.slug}-{account.next_serial('order')}", "source": dice.pick(("web", "sales", "api"))},
        "start_date": created,
        "status": status,
        "trial_end": created + 14 * 86_400 if status == "trialing" else None,
        "trial_start": created if status == "trialing" else None,
    }


def make_invoice(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    subscription, created = account.pick("subscription", dice), seconds(life.created_at)
    item = subscription["items"]["data"][0]
    invoice_id, quantity = f"in_1{dice.token(23)}", item["quantity"]
    subtotal = quantity * (item["price"]["unit_amount"] or 125)
    tax = subtotal * dice.pick((0, 0, 19, 20, 25)) // 100
    total, status = subtotal + tax, dice.pick(("paid", "paid", "paid", "open", "draft", "void"))
    paid = total if status == "paid" else 0
    line = {
        "id": f"il_1{dice.token(23)}",
        "object": "line_item",
        "amount": subtotal,
        "currency": subscription["currency"],
        "description": f"{quantity} × {item['price']['nickname'] or 'seat'}",
        "period": {"end": created, "start": created - MONTH_SECONDS},
        "price": {"id": item["price"]["id"], "product": item["price"]["product"]},
        "quantity": quantity,
    }
    return {
        "id": invoice_id,
        "object": "invoice",
        "account_name": account.sync.name,
        "amount_due": total,
        "amount_paid": paid,
        "amount_remaining": total - paid,
        "attempt_count": dice.below(3),
        "attempted": status == "paid",
        "billing_reason": "subscription_cycle",
        "collection_method": subscription["collection_method"],
        "created": created,
        "currency": subscription["currency"],
        "customer": subscription["customer"],
        "customer_address": dice.maybe(0.7, address(dice)),
        "customer_email": dice.maybe(0.9, words.email(dice)),
        "due_date": created + 14 * 86_400 if subscription["collection_method"] == "send_invoice" else None,
        "hosted_invoice_url": f"https://invoices.example/{account.slug}/{invoice_id}",
        "lines": _list(f"/v1/invoices/{invoice_id}/lines", [line]),
        "livemode": True,
        "metadata": subscription["metadata"],
        "number": f"{dice.token(8, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')}-{account.next_serial('invoice'):04}",
        "paid": status == "paid",
        "period_end": created,
        "period_start": created - MONTH_SECONDS,
        "status": status,
        "status_transitions": {
            "finalized_at": None if status == "draft" else created + 3_600,
            "marked_uncollectible_at": None,
            "paid_at": created + 3_700 if status == "paid" else None,
            "voided_at": created + 86_400 if status == "void" else None,
        },
        "subscription": subscription["id"],
        "subtotal": subtotal,
        "tax": tax or None,
        "total": total,
    }


def make_charge(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    invoice = account.pick("invoice", dice)
    charge_id, amount = f"ch_3{dice.token(23)}", invoice["total"]
    has_failed, is_refunded = dice.chance(0.08), dice.chance(0.05)
    city, country, postal_code, _ = dice.pick(words.PLACES)
    card = {
        "brand": dice.pick(("visa", "mastercard", "amex")),
        "checks": {"address_line1_check": None, "address_postal_code_check": "pass", "cvc_check": "pass"},
        "country": country,
        "exp_month": dice.between(1, 12),
        "exp_year": dice.between(2027, 2031),
        "fingerprint": dice.token(16),
        "funding": dice.pick(("credit", "debit")),
        "last4": dice.token(4, "0123456789"),
        "network": "visa",
        "three_d_secure": None,
        "wallet": None,
    }
    return {
        "id": charge_id,
        "object": "charge",
        "amount": amount,
        "amount_captured": 0 if has_failed else amount,
        "amount_refunded": amount if is_refunded and not has_failed else 0,
        "balance_transaction": None if has_failed else f"txn_3{dice.token(23)}",
        "billing_details": {
            "address": {"city": city, "country": country, "line1": None, "postal_code": postal_code},
            "email": invoice["customer_email"],
            "name": " ".join(words.person(dice)),
            "phone": None,
        },
        "calculated_statement_descriptor": account.sync.name.upper()[:22],
        "captured": not has_failed,
        "created": seconds(life.created_at),
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "description": f"Payment of {invoice['number']}",
        "disputed": dice.chance(0.01),
        "failure_code": "card_declined" if has_failed else None,
        "failure_message": "Your card was declined." if has_failed else None,
        "fraud_details": {},
        "invoice": invoice["id"],
        "livemode": True,
        "metadata": {},
        "outcome": {
            "network_status": "declined_by_network" if has_failed else "approved_by_network",
            "risk_level": "normal",
            "risk_score": dice.between(1, 70),
            "seller_message": "Payment complete." if not has_failed else "The bank declined the payment.",
            "type": "issuer_declined" if has_failed else "authorized",
        },
        "paid": not has_failed,
        "payment_intent": f"pi_3{dice.token(23)}",
        "payment_method": f"pm_1{dice.token(23)}",
        "payment_method_details": {"card": card, "type": "card"},
        "receipt_email": None,
        "receipt_url": f"https://receipts.example/{account.slug}/{charge_id}",
        "refunded": is_refunded and not has_failed,
        "status": "failed" if has_failed else "succeeded",
    }


def revise_subscription(dice: Dice, subscription: JsonObject, at: datetime) -> JsonObject:
    """Begins a new period with another number of seats."""
    period = {"current_period_end": seconds(at) + MONTH_SECONDS, "current_period_start": seconds(at)}
    items = subscription["items"]
    item = {**items["data"][0], **period, "quantity": items["data"][0]["quantity"] + dice.between(1, 5)}
    status = dice.pick(("active", "active", "past_due"))
    return {**subscription, **period, "items": {**items, "data": [item]}, "status": status}


def revise_invoice(dice: Dice, invoice: JsonObject, at: datetime) -> JsonObject:
    """Pays the invoice; a paid one is tried once more, as a webhook that repeats itself would show it."""
    return {
        **invoice,
        "amount_paid": invoice["total"],
        "amount_remaining": 0,
        "attempt_count": invoice["attempt_count"] + 1,
        "attempted": True,
        "paid": True,
        "status": "paid",
        "status_transitions": {**invoice["status_transitions"], "paid_at": seconds(at)},
    }


def revise_charge(dice: Dice, charge: JsonObject, at: datetime) -> JsonObject:
    """Returns part of what was captured, or all of it, after somebody has looked at the charge."""
    refunded = dice.between(0, charge["amount_captured"])
    return {
        **charge,
        "amount_refunded": refunded,
        "metadata": {"reviewed_at": str(seconds(at)), "reviewed_by": dice.pick(words.FIRST_NAMES)},
        "refunded": refunded == charge["amount_captured"] > 0,
    }


def bury_subscription(subscription: JsonObject, at: datetime) -> JsonObject:
    """Cancels the subscription: Stripe shows a deleted one so."""
    return {**subscription, "canceled_at": seconds(at), "ended_at": seconds(at), "status": "canceled"}
