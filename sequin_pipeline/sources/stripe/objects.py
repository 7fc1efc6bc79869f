"""This table says what can be listed at Stripe, and how: one line for each class of objects, by the name that a defs.yaml uses.

The names are those of the field `object`. Left out is what can only be listed below a parent (subscription items, line items, tax ids
of one customer): it is part of the parent's object, or has no list of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MAX_EVENT_TYPES = 20
"""One request for events takes at most this many names."""


@dataclass(frozen=True)
class Listable:
    """This value describes a class of objects with a list of its own.

    `params` go with every list; where there are `variants`, the whole is the lists with each of them. `expand` names what is left out,
    or stands as an id, unless it is asked for. `time` is the field with the second of an object's creation, None where it has none
    (times of something else do not count). `filters_created`: the list takes bounds for that time, as `created` whatever the field's
    name, and then it is newest first, too.

    `events` are the types of event that say that such an object has changed, one pattern or up to 20 names (none: changes show only
    when it is listed), and `filters_events`: the server takes them as a filter.

    `retrieves`: there is `path/id`. `lists_all`: an object that is not listed no longer exists. `hides_test_clocks`: an object on a
    test clock is only in the list of that clock.
    """

    name: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    variants: tuple[tuple[str, str], ...] = ()
    expand: tuple[str, ...] = ()
    time: Literal["created", "date"] | None = "created"
    filters_created: bool = True
    events: tuple[str, ...] = ()
    filters_events: bool = True
    retrieves: bool = True
    lists_all: bool = True
    hides_test_clocks: bool = False


_ALL = (("status", "all"),)
"""Without this parameter canceled objects are left out, and a cancellation would look like a deletion."""

_ACTIVE_OR_NOT = (("active", "true"), ("active", "false"))

_TABLE = (
    Listable("account", "/v1/accounts", events=("account.updated",)),
    Listable("apple_pay_domain", "/v1/apple_pay/domains", filters_created=False),
    Listable("application_fee", "/v1/application_fees", events=("application_fee.*",)),
    Listable("balance_transaction", "/v1/balance_transactions"),
    Listable("billing.alert", "/v1/billing/alerts", time=None, filters_created=False),
    Listable("billing.credit_grant", "/v1/billing/credit_grants", filters_created=False, events=("billing.credit_grant.*",)),
    Listable("billing.meter", "/v1/billing/meters", filters_created=False, events=("billing.meter.*",)),
    Listable("billing_portal.configuration", "/v1/billing_portal/configurations", filters_created=False,
             events=("billing_portal.configuration.*",)),
    Listable("charge", "/v1/charges", events=("charge.*",)),
    Listable("checkout.session", "/v1/checkout/sessions", expand=("line_items",), events=("checkout.session.*",)),
    Listable("climate.order", "/v1/climate/orders", filters_created=False, events=("climate.order.*",)),
    Listable("climate.product", "/v1/climate/products", filters_created=False, events=("climate.product.*",)),
    Listable("climate.supplier", "/v1/climate/suppliers", time=None, filters_created=False),
    Listable("country_spec", "/v1/country_specs", time=None, filters_created=False),
    Listable("coupon", "/v1/coupons", expand=("applies_to",), events=("coupon.*",)),
    Listable("credit_note", "/v1/credit_notes", events=("credit_note.*",)),
    Listable("customer", "/v1/customers", events=("customer.created", "customer.updated", "customer.deleted"),
             hides_test_clocks=True),
    Listable("dispute", "/v1/disputes", events=("charge.dispute.*",)),
    Listable("entitlements.feature", "/v1/entitlements/features", time=None, filters_created=False),
    # Only those of the last 30 days are listed.
    Listable("event", "/v1/events", lists_all=False),
    Listable("exchange_rate", "/v1/exchange_rates", time=None, filters_created=False),
    Listable("file", "/v1/files", events=("file.created",)),
    Listable("file_link", "/v1/file_links"),
    Listable("financial_connections.account", "/v1/financial_connections/accounts", filters_created=False,
             events=("financial_connections.account.*",)),
    Listable("forwarding.request", "/v1/forwarding/requests"),
    Listable("identity.verification_report", "/v1/identity/verification_reports"),
    Listable("identity.verification_session", "/v1/identity/verification_sessions", events=("identity.verification_session.*",)),
    Listable("invoice", "/v1/invoices", events=("invoice.*",)),
    Listable("invoice_payment", "/v1/invoice_payments", filters_created=False),
    Listable("invoice_rendering_template", "/v1/invoice_rendering_templates", filters_created=False),
    Listable("invoiceitem", "/v1/invoiceitems", time="date", events=("invoiceitem.*",)),
    Listable("issuing.authorization", "/v1/issuing/authorizations", events=("issuing_authorization.*",)),
    Listable("issuing.card", "/v1/issuing/cards", events=("issuing_card.*",)),
    Listable("issuing.cardholder", "/v1/issuing/cardholders", events=("issuing_cardholder.*",)),
    Listable("issuing.dispute", "/v1/issuing/disputes", events=("issuing_dispute.*",)),
    Listable("issuing.personalization_design", "/v1/issuing/personalization_designs", filters_created=False),
    Listable("issuing.physical_bundle", "/v1/issuing/physical_bundles", time=None, filters_created=False),
    Listable("issuing.transaction", "/v1/issuing/transactions", events=("issuing_transaction.*",)),
    Listable("payment_intent", "/v1/payment_intents", events=("payment_intent.*",)),
    Listable("payment_link", "/v1/payment_links", expand=("line_items",), time=None, filters_created=False,
             events=("payment_link.*",)),
    Listable("payment_method_configuration", "/v1/payment_method_configurations", time=None, filters_created=False),
    Listable("payment_method_domain", "/v1/payment_method_domains", filters_created=False),
    Listable("payout", "/v1/payouts", events=("payout.*",)),
    Listable("plan", "/v1/plans", expand=("tiers",), events=("plan.*",)),
    # Prices that were made within another object are never listed, but have events.
    Listable("price", "/v1/prices", variants=_ACTIVE_OR_NOT, expand=("tiers",), events=("price.*",), lists_all=False),
    Listable("product", "/v1/products", events=("product.*",)),
    Listable("promotion_code", "/v1/promotion_codes", events=("promotion_code.*",)),
    Listable("quote", "/v1/quotes", expand=("line_items",), filters_created=False, events=("quote.*",), hides_test_clocks=True),
    Listable("radar.early_fraud_warning", "/v1/radar/early_fraud_warnings", events=("radar.early_fraud_warning.*",)),
    Listable("radar.value_list", "/v1/radar/value_lists"),
    Listable("refund", "/v1/refunds",
             events=("refund.created", "refund.updated", "refund.failed", "charge.refund.updated")),
    Listable("reporting.report_run", "/v1/reporting/report_runs", events=("reporting.report_run.*",)),
    Listable("reporting.report_type", "/v1/reporting/report_types", time=None, filters_created=False),
    # Only open ones are listed.
    Listable("review", "/v1/reviews", events=("review.*",), lists_all=False),
    Listable("scheduled_query_run", "/v1/sigma/scheduled_query_runs", filters_created=False),
    Listable("setup_intent", "/v1/setup_intents", events=("setup_intent.*",)),
    Listable("shipping_rate", "/v1/shipping_rates"),
    Listable("subscription", "/v1/subscriptions", params=_ALL, events=("customer.subscription.*",), hides_test_clocks=True),
    Listable("subscription_schedule", "/v1/subscription_schedules", events=("subscription_schedule.*",)),
    Listable("tax.registration", "/v1/tax/registrations", params=_ALL, filters_created=False),
    Listable("tax_code", "/v1/tax_codes", time=None, filters_created=False),
    Listable("tax_id", "/v1/tax_ids", filters_created=False),
    Listable("tax_rate", "/v1/tax_rates", events=("tax_rate.*",)),
    Listable("terminal.configuration", "/v1/terminal/configurations", time=None, filters_created=False),
    Listable("terminal.location", "/v1/terminal/locations", time=None, filters_created=False),
    Listable("terminal.reader", "/v1/terminal/readers", time=None, filters_created=False),
    Listable("test_helpers.test_clock", "/v1/test_helpers/test_clocks", filters_created=False,
             events=("test_helpers.test_clock.*",)),
    Listable("topup", "/v1/topups", events=("topup.*",)),
    Listable("transfer", "/v1/transfers", events=("transfer.*",)),
    Listable("treasury.financial_account", "/v1/treasury/financial_accounts", events=("treasury.financial_account.*",)),
    Listable("webhook_endpoint", "/v1/webhook_endpoints", filters_created=False),
)  # fmt: skip

TEST_CLOCKS = "test_helpers.test_clock"
TEST_CLOCK = "test_clock"
"""This parameter of lists names a test clock."""

LISTABLE: Mapping[str, Listable] = {listable.name: listable for listable in _TABLE}
