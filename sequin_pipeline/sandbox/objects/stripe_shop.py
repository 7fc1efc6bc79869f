"""This module makes Stripe's products, prices and customers, and what all its objects have in common.

Money is in minor units (currencies without them, like JPY, count whole units), times are seconds since 1970.
"""

from datetime import datetime

from sequin_pipeline.sandbox.dice import HEX, Dice
from sequin_pipeline.sandbox.objects import JsonObject, Lifetime, words
from sequin_pipeline.sandbox.objects.account import Account

SHARED_PRODUCT_IDS = ("starter", "team", "business", "support-hours", "onboarding")
"""These products' ids were chosen by the seller: every account has them, so upstream ids repeat across syncs."""


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def address(dice: Dice) -> JsonObject:
    city, country, postal_code, _ = dice.pick(words.PLACES)
    return {
        "city": city,
        "country": country,
        "line1": f"{dice.pick(words.STREETS)} {dice.between(1, 180)}",
        "line2": dice.maybe(0.2, "2nd floor"),
        "postal_code": postal_code,
        "state": None,
    }


def make_product(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    serial = account.next_serial("product")
    is_shared = serial <= len(SHARED_PRODUCT_IDS)
    name = f"{dice.pick(words.COMPANY_HEADS)} {dice.pick(('Reports', 'Storage', 'Seats', 'Insights', 'Support'))}"
    return {
        "id": SHARED_PRODUCT_IDS[serial - 1] if is_shared else f"prod_{dice.token(14)}",
        "object": "product",
        "active": dice.chance(0.9),
        "attributes": [],
        "created": seconds(life.created_at),
        "default_price": None,
        "description": dice.maybe(0.8, words.text(dice, 2)),
        "images": [f"https://files.example/{account.slug}/{dice.token(16)}.png"] if dice.chance(0.6) else [],
        "livemode": True,
        "marketing_features": [{"name": dice.pick(("Unlimited exports", "Single sign-on", "Audit log"))} for _ in range(3)],
        "metadata": {"cost_center": str(dice.between(100, 999)), "family": name.split()[-1].lower()},
        "name": name,
        "package_dimensions": None,
        "shippable": dice.pick((True, False, None)),
        "statement_descriptor": dice.maybe(0.5, account.sync.name.upper()[:22]),
        "tax_code": dice.pick(("txcd_10103001", "txcd_10000000", None)),
        "type": "service",
        "unit_label": dice.pick(("seat", "GB", None)),
        "updated": seconds(life.updated_at),
        "url": f"https://{account.slug}.example/products/{serial}",
    }


def make_price(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    is_recurring = account.next_serial("price") <= 5 or dice.chance(0.8)
    unit_amount = dice.between(2, 900) * 100 - dice.pick((0, 1, 50))
    is_fractional = dice.chance(0.15)
    recurring = {
        "aggregate_usage": None,
        "interval": dice.pick(("month", "month", "year")),
        "interval_count": dice.pick((1, 1, 1, 3)),
        "meter": None,
        "trial_period_days": dice.maybe(0.2, 14),
        "usage_type": "licensed",
    }
    return {
        "id": f"price_1{dice.token(23)}",
        "object": "price",
        "active": dice.chance(0.85),
        "billing_scheme": "per_unit",
        "created": seconds(life.created_at),
        "currency": dice.pick(words.CURRENCIES),
        "custom_unit_amount": None,
        "livemode": True,
        "lookup_key": dice.maybe(0.3, f"{account.slug}-{dice.token(6, HEX)}"),
        "metadata": {"approved_by": dice.pick(words.FIRST_NAMES)} if dice.chance(0.5) else {},
        "nickname": dice.maybe(0.6, dice.pick(("List price", "Partner price", "Frühbucher", "Legacy"))),
        "product": account.pick("product", dice)["id"],
        "recurring": recurring if is_recurring else None,
        "tax_behavior": dice.pick(("exclusive", "inclusive", "unspecified")),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if is_recurring else "one_time",
        "unit_amount": None if is_fractional else unit_amount,
        "unit_amount_decimal": f"{unit_amount // 100}.{dice.token(6, '123456789')}" if is_fractional else str(unit_amount),
    }


def make_customer(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    name = " ".join(words.person(dice)) if dice.chance(0.6) else words.company(dice)
    *_, language = dice.pick(words.PLACES)
    return {
        "id": f"cus_{dice.token(14)}",
        "object": "customer",
        "address": dice.maybe(0.8, address(dice)),
        "balance": dice.pick((0, 0, 0, -500, 2_000, -12_050)),
        "created": seconds(life.created_at),
        "currency": dice.pick(words.CURRENCIES),
        "default_source": None,
        "delinquent": dice.chance(0.06),
        "description": dice.maybe(0.6, words.text(dice, 1)),
        "discount": None,
        "email": dice.maybe(0.95, words.email(dice)),
        "invoice_prefix": dice.token(8, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": f"pm_1{dice.token(23)}",
            "footer": dice.maybe(0.1, "Reverse charge."),
            "rendering_options": None,
        },
        "livemode": True,
        "metadata": {"crm_id": str(dice.between(10_000, 99_999)), "segment": dice.pick(("smb", "mid", "enterprise"))},
        "name": name,
        "next_invoice_sequence": dice.between(1, 60),
        "phone": dice.maybe(0.5, words.phone(dice)),
        "preferred_locales": [language],
        "shipping": dice.maybe(0.4, {"address": address(dice), "name": name, "phone": words.phone(dice)}),
        "tax_exempt": dice.pick(("none", "none", "exempt", "reverse")),
        "test_clock": None,
    }


def revise_product(dice: Dice, product: JsonObject, at: datetime) -> JsonObject:
    return {**product, "active": not product["active"], "updated": seconds(at)}


def revise_price(dice: Dice, price: JsonObject, at: datetime) -> JsonObject:
    return {**price, "active": not price["active"], "nickname": dice.pick(("List price", "Partner price", "Old list price"))}


def revise_customer(dice: Dice, customer: JsonObject, at: datetime) -> JsonObject:
    balance = customer["balance"] - dice.between(1, 50) * 100
    return {**customer, "address": address(dice), "balance": balance, "delinquent": dice.chance(0.1)}
