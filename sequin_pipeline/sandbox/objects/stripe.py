"""Stripe's objects refer to each other by id, and do not say when they last changed."""

from datetime import datetime

from sequin_pipeline.sandbox.objects import JsonObject, Kind, Provider
from sequin_pipeline.sandbox.objects.stripe_billing import (
    bury_subscription,
    make_charge,
    make_invoice,
    make_subscription,
    revise_charge,
    revise_invoice,
    revise_subscription,
)
from sequin_pipeline.sandbox.objects.stripe_shop import (
    make_customer,
    make_price,
    make_product,
    revise_customer,
    revise_price,
    revise_product,
)


def _as_it_was(deleted: JsonObject, at: datetime) -> JsonObject:
    return deleted


STRIPE = Provider(
    name="stripe",
    kinds=(
        Kind("product", 90, make_product, revise_product, _as_it_was),
        Kind("price", 180, make_price, revise_price, _as_it_was),
        Kind("customer", 900, make_customer, revise_customer, _as_it_was),
        Kind("subscription", 900, make_subscription, revise_subscription, bury_subscription),
        Kind("invoice", 1_440, make_invoice, revise_invoice, _as_it_was),
        Kind("charge", 1_440, make_charge, revise_charge, _as_it_was),
    ),
    shows_updates=False,
)
