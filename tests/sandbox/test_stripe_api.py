"""The sandbox's Stripe API as a client sees it: lists, single objects, events, what follows from a change, and what is refused."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.sources.stripe.sandboxed import SandboxShop, sandbox_shop
from tests.sources.stripe.shop import KEY

BASIL, BEFORE_BASIL = "2025-03-31.basil", "2024-06-20"


@pytest.fixture
def shop() -> Iterator[SandboxShop]:
    with sandbox_shop() as shop:
        yield shop


def ask(shop: SandboxShop, path: str, **headers: str) -> httpx2.Response:
    return shop.stranger.get(path, headers={"authorization": f"Bearer {KEY}", **headers})


def ids(shop: SandboxShop, path: str) -> list[str]:
    return [each["id"] for each in ask(shop, path).json()["data"]]


def events(shop: SandboxShop, query: str = "limit=100") -> list[tuple[str, str]]:
    """Type and id of the object, the newest first."""
    return [(each["type"], each["data"]["object"]["id"]) for each in ask(shop, f"/v1/events?{query}").json()["data"]]


def fill(shop: SandboxShop, count: int) -> int:
    """Customers c_0, c_1, …, one a second; returns the second of the first."""
    start = shop.clock.second
    for number in range(count):
        shop.post("customers", id=f"c_{number}", created=start + number)
    shop.clock.second += count
    return start


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        pytest.param("limit=3", ["c_6", "c_5", "c_4"], True, id="newest first"),
        pytest.param("limit=3&starting_after=c_4", ["c_3", "c_2", "c_1"], True, id="behind an object"),
        pytest.param("limit=3&starting_after=c_3", ["c_2", "c_1", "c_0"], False, id="the last page"),
        pytest.param("limit=3&starting_after=c_0", [], False, id="behind the last"),
        pytest.param("limit=2&ending_before=c_2", ["c_4", "c_3"], True, id="in front of an object"),
        pytest.param("limit=4&ending_before=c_2", ["c_6", "c_5", "c_4", "c_3"], False, id="all in front of an object"),
        pytest.param("created[gte]={2}&created[lt]={4}", ["c_3", "c_2"], False, id="gte and lt"),
        pytest.param("created[gt]={2}&created[lte]={4}", ["c_4", "c_3"], False, id="gt and lte"),
        pytest.param("created={5}", ["c_5"], False, id="one second"),
        pytest.param(
            "created[lt]={4}&limit=2&starting_after=c_6", ["c_3", "c_2"], True, id="bounds and a cursor outside of them"
        ),
        pytest.param("email=x@y.example", ["c_1"], False, id="a filter"),
    ],
)
def test_a_list_is_paged_bounded_and_filtered(shop: SandboxShop, query: str, expected: list[str], *, has_more: bool) -> None:
    start = fill(shop, 7)
    shop.post("customers/c_1", email="x@y.example")

    page = ask(shop, "/v1/customers?" + query.replace("{", "{start+").format_map(_Seconds(start))).json()

    assert ([each["id"] for each in page["data"]], page["has_more"]) == (expected, has_more)
    assert (page["object"], page["url"]) == ("list", "/v1/customers")


class _Seconds(dict[str, int]):
    """Gives for `start+N` the second that is N behind the start."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __missing__(self, name: str) -> int:
        return self._start + int(name.partition("+")[2])


def test_a_page_holds_ten_objects_unless_more_are_asked_for_and_a_hundred_at_most(shop: SandboxShop) -> None:
    fill(shop, 120)

    assert [len(ids(shop, f"/v1/customers{query}")) for query in ("", "?limit=100")] == [10, 100]


def test_objects_of_one_second_stand_in_a_fixed_order(shop: SandboxShop) -> None:
    for name in ("b", "a", "c"):
        shop.post("customers", id=name)
    shop.post("customers/b", name="changed")

    assert ids(shop, "/v1/customers") == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        pytest.param("/v1/customers?limit=0", 400, {"code": "parameter_invalid_integer", "param": "limit"}, id="limit 0"),
        pytest.param("/v1/customers?limit=101", 400, {"code": "parameter_invalid_integer", "param": "limit"}, id="limit 101"),
        pytest.param("/v1/customers?limit=x", 400, {"code": "parameter_invalid_integer", "param": "limit"}, id="limit x"),
        pytest.param("/v1/customers?colour=red", 400, {"code": "parameter_unknown", "param": "colour"}, id="unknown parameter"),
        pytest.param("/v1/quotes?created[gte]=1", 400, {"code": "parameter_unknown", "param": "created[gte]"}, id="no bounds"),
        pytest.param("/v1/prices?active=yes", 400, {"code": "parameter_invalid_boolean", "param": "active"}, id="no boolean"),
        pytest.param(
            "/v1/customers?test_clock=clock_1", 400, {"code": "resource_missing", "param": "test_clock"}, id="test clock"
        ),
        pytest.param(
            "/v1/customers?starting_after=c_1", 400, {"code": "resource_missing", "param": "starting_after"}, id="cursor gone"
        ),
        pytest.param("/v1/customers?starting_after=a&ending_before=b", 400, {"param": "ending_before"}, id="both directions"),
        pytest.param("/v1/customers?expand[]=email", 400, {"param": "expand"}, id="expand without data"),
        pytest.param("/v1/customers/c_1", 404, {"code": "resource_missing", "param": "id"}, id="no such object"),
        pytest.param("/v1/events/evt_1", 404, {"code": "resource_missing", "param": "id"}, id="no such event"),
        pytest.param("/v1/invoices/in_1/lines", 404, {"code": "resource_missing", "param": "id"}, id="lines of no invoice"),
        pytest.param("/v1/subscription_items", 400, {"code": "parameter_missing", "param": "subscription"}, id="items of what"),
        pytest.param("/v1/nothing", 404, {}, id="no such path"),
        pytest.param("/v2/core/events", 404, {}, id="API v2"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_stripe_s_form(
    shop: SandboxShop, path: str, status: int, error: dict[str, str]
) -> None:
    answer = ask(shop, path)

    told = answer.json()["error"]
    assert (answer.status_code, told.pop("type"), bool(told.pop("message"))) == (status, "invalid_request_error", True)
    assert told == error


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 401, id="no key"),
        pytest.param({"authorization": "Bearer rk_test_other"}, 401, id="another key"),
        pytest.param({"authorization": "Bearer sk_live_7Qsecret"}, 401, id="a live key"),
        pytest.param({"authorization": "Basic !"}, 401, id="no base64"),
        pytest.param({"authorization": f"Bearer {KEY}", "stripe-account": "acct_other"}, 403, id="no such account"),
        pytest.param({"authorization": f"Bearer {KEY}", "stripe-version": "latest"}, 400, id="no version"),
    ],
)
def test_who_may_not_ask_is_told_so_without_a_word_of_the_key(shop: SandboxShop, headers: dict[str, str], status: int) -> None:
    answer = shop.stranger.get("/v1/customers", headers=headers)
    log = shop.stranger.get("/_sandbox/requests").text

    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
    assert "secret" not in answer.text + str(answer.headers) + log
    assert "other" not in answer.text.replace("acct_other", "") + log


def test_each_key_has_an_account_of_its_own_and_the_first_reaches_the_others() -> None:
    with sandbox_shop(token=None) as shop:
        for name in ("one", "two", "three"):
            record = {"collection_id": "stripe:customer", "sync": {"id": name}, "upstream_id": name, "data": {}}
            shop.stranger.post("/_sandbox/records", content=json.dumps(record))
        keys = ("rk_test_sandbox", "sk_test_sandbox_2", "rk_test_sandbox_3")
        accounts = [ask(shop, "/v1/account", authorization=f"Bearer {key}").json()["id"] for key in keys]
        own = [ask(shop, "/v1/customers", authorization=f"Bearer {key}").json()["data"][0]["id"] for key in keys]
        platform = {"authorization": f"Bearer {keys[0]}"}
        reached = [ask(shop, "/v1/customers", **platform, **{"stripe-account": account}).json() for account in accounts]
        refused = ask(shop, "/v1/customers", authorization=f"Bearer {keys[1]}", **{"stripe-account": accounts[0]})
        nobody = ask(shop, "/v1/account", authorization="Bearer rk_test_sandbox_4")

    assert len(set(accounts)) == 3
    assert own == [page["data"][0]["id"] for page in reached] == ["one", "two", "three"]
    assert (refused.status_code, nobody.status_code) == (403, 401)


def test_a_key_is_taken_from_basic_authentication_too(shop: SandboxShop) -> None:
    answer = shop.stranger.get("/v1/customers", auth=(KEY, ""))

    assert answer.status_code == 200


def test_nothing_can_be_written_but_records(shop: SandboxShop) -> None:
    answers = [shop.stranger.request(method, "/v1/customers", auth=(KEY, "")) for method in ("POST", "DELETE")]

    assert [answer.status_code for answer in answers] == [405, 405]
    assert "POST /_sandbox/records" in answers[0].json()["error"]["message"]


def test_events_tell_of_every_change_the_newest_first_and_by_type(shop: SandboxShop) -> None:
    shop.post("customers", id="c", name="one")
    shop.post("customers/c", name="two")
    shop.post("customers/c", name="two")  # changes nothing
    shop.post("products", id="p")
    shop.delete("customers/c")

    assert events(shop) == [
        ("customer.deleted", "c"),
        ("product.created", "p"),
        ("customer.updated", "c"),
        ("customer.created", "c"),
    ]
    assert events(shop, "type=customer.*&limit=2") == [("customer.deleted", "c"), ("customer.updated", "c")]
    assert events(shop, "type=product.created") == [("product.created", "p")]
    assert events(shop, "types[]=product.created&types[]=customer.created") == [
        ("product.created", "p"),
        ("customer.created", "c"),
    ]
    updated = ask(shop, "/v1/events?type=customer.updated").json()["data"][0]
    assert (updated["data"]["object"]["name"], updated["data"]["previous_attributes"]) == ("two", {"name": "one"})
    assert ask(shop, f"/v1/events/{updated['id']}").json() == updated


def test_events_are_forgotten_after_thirty_days(shop: SandboxShop) -> None:
    shop.post("customers", id="old")
    shop.clock.second += 30 * 86_400
    shop.post("customers", id="new")
    both = events(shop)
    shop.clock.second += 1

    assert both == [("customer.created", "new"), ("customer.created", "old")]
    assert events(shop) == [("customer.created", "new")]


@pytest.mark.parametrize(
    ("path", "form", "left", "told"),
    [
        pytest.param("customers", {}, {"id": "x", "object": "customer", "deleted": True}, ["customer.deleted"], id="customer"),
        pytest.param("products", {}, None, ["product.deleted"], id="product"),
        pytest.param("invoices", {}, None, ["invoice.deleted"], id="invoice"),
        pytest.param(
            "subscriptions",
            {"status": "active"},
            {"status": "canceled"},
            ["customer.subscription.deleted", "customer.subscription.created"],
            id="subscription",
        ),
        pytest.param(
            "charges",
            {"amount": 700, "amount_captured": 700, "amount_refunded": 0},
            {"amount_refunded": 700, "refunded": True},
            ["charge.refunded"],
            id="charge",
        ),
    ],
)
def test_what_is_deleted_is_left_as_stripe_leaves_it(
    shop: SandboxShop, path: str, form: dict[str, Any], left: dict[str, Any] | None, told: list[str]
) -> None:
    shop.post(path, id="x", **form)
    shop.delete(f"{path}/x")

    answer = ask(shop, f"/v1/{path}/x")

    assert answer.status_code == (404 if left is None else 200)
    assert left is None or left.items() <= answer.json().items()
    assert [event for event, _ in events(shop)][: len(told)] == told


def test_canceled_subscriptions_and_inactive_prices_are_listed_when_they_are_asked_for(shop: SandboxShop) -> None:
    for status in ("active", "canceled", "past_due"):
        shop.post("subscriptions", id=status, status=status)
    shop.post("prices", id="on", active=True)
    shop.post("prices", id="off", active=False)

    assert ids(shop, "/v1/subscriptions") == ["past_due", "active"]
    assert ids(shop, "/v1/subscriptions?status=all") == ["past_due", "canceled", "active"]
    assert ids(shop, "/v1/subscriptions?status=canceled") == ["canceled"]
    assert [ids(shop, f"/v1/prices{query}") for query in ("", "?active=false")] == [["on"], ["off"]]


@pytest.mark.parametrize(
    ("path", "within", "address"),
    [
        ("invoices", "lines", "/v1/invoices/x/lines"),
        ("subscriptions", "items", "/v1/subscription_items?subscription=x"),
    ],
)
def test_a_list_within_an_object_begins_there_and_goes_on_at_its_address(
    shop: SandboxShop, path: str, within: str, address: str
) -> None:
    elements = [{"id": f"e_{number}", "object": "line_item"} for number in range(25)]
    shop.post(path, id="x", status="active", **{within: {"object": "list", "data": elements}})

    begun = ask(shop, f"/v1/{path}/x").json()[within]
    rest = ask(shop, f"{address}{'&' if '?' in address else '?'}limit=100&starting_after=e_9").json()

    assert begun == {"object": "list", "data": elements[:10], "has_more": True, "url": address}
    assert (rest["data"], rest["has_more"]) == (elements[10:], False)


INVOICE = {
    "subscription": "sub_1",
    "paid": True,
    "subtotal": 100,
    "tax": 19,
    "lines": {
        "object": "list",
        "data": [
            {"id": "il_1", "object": "line_item", "amount": 100, "price": {"id": "price_1", "product": "prod_1"}, "quantity": 2}
        ],
    },
}


def test_an_object_has_the_form_of_the_version_that_is_asked_for(shop: SandboxShop) -> None:
    shop.post("invoices", id="in_1", **INVOICE)

    new, old = (ask(shop, "/v1/invoices/in_1", **{"stripe-version": version}) for version in (BASIL, BEFORE_BASIL))

    assert (new.headers["stripe-version"], old.headers["stripe-version"]) == (BASIL, BEFORE_BASIL)
    assert {"subscription", "paid", "tax"} <= old.json().keys()
    assert not {"subscription", "paid", "tax"} & new.json().keys()
    assert new.json()["parent"]["subscription_details"]["subscription"] == "sub_1"
    assert new.json()["lines"]["data"][0]["pricing"]["price_details"] == {"price": "price_1", "product": "prod_1"}
    assert ask(shop, "/v1/invoices/in_1").json() == old.json()


def test_an_invoice_over_many_seats_has_invoice_items_that_go_with_it(shop: SandboxShop) -> None:
    many = {**INVOICE, "lines": {"data": [{**INVOICE["lines"]["data"][0], "amount": 10_000, "quantity": 40}]}}  # type: ignore[index]  # a list
    shop.post("invoices", id="in_1", customer="c", **many)
    lines = ask(shop, "/v1/invoices/in_1/lines?limit=100").json()["data"]
    items = ids(shop, "/v1/invoiceitems?limit=100&invoice=in_1")
    shop.delete("invoices/in_1")

    assert (len(lines), sum(line["amount"] for line in lines)) == (18, 10_000)
    assert sorted(items) == sorted(line["invoice_item"] for line in lines if line["type"] == "invoiceitem")
    assert ids(shop, "/v1/invoiceitems") == []
    assert ("invoiceitem.deleted", items[0]) in events(shop)


def test_a_charge_has_a_balance_transaction_and_a_payment_intent(shop: SandboxShop) -> None:
    shop.post("charges", id="ch_1", amount=1000, balance_transaction="txn_1", payment_intent="pi_1", status="succeeded")

    transaction = ask(shop, "/v1/balance_transactions/txn_1").json()
    intent = ask(shop, "/v1/payment_intents/pi_1").json()

    assert (transaction["source"], transaction["amount"], transaction["net"]) == ("ch_1", 1000, 1000 - 29 - 30)
    assert (intent["latest_charge"], intent["status"]) == ("ch_1", "succeeded")
    assert [event for event, _ in events(shop)] == ["payment_intent.succeeded", "payment_intent.created", "charge.succeeded"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/charges/ch_1?expand[]=customer", ["customer", "object"]),
        ("/v1/charges?expand[]=data.customer", ["data", 0, "customer", "object"]),
        ("/v1/charges?expand[]=data.customer.invoice", ["data", 0, "customer", "invoice", "object"]),
    ],
)
def test_ids_are_expanded_where_that_is_asked_for(shop: SandboxShop, path: str, found: list[str | int]) -> None:
    shop.post("invoices", id="in_1")
    shop.post("customers", id="c", invoice="in_1")
    shop.post("charges", id="ch_1", customer="c")

    node: Any = ask(shop, path).json()
    for step in found:
        node = node[step]

    assert node == found[-2]


@pytest.mark.parametrize(
    ("fault", "status", "code", "retry_after"),
    [
        pytest.param("status:429", 429, "rate_limit", None, id="429"),
        pytest.param("status:429,retry-after=3", 429, "rate_limit", "3", id="429 with Retry-After"),
        pytest.param("status:503,collection=stripe:customer", 503, None, None, id="503 of a collection"),
    ],
)
def test_faults_are_told_in_stripe_s_form(fault: str, status: int, code: str | None, retry_after: str | None) -> None:
    with sandbox_shop(faults=(fault,)) as shop:
        answer = ask(shop, "/v1/customers")

    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.json()["error"].get("code") == code
    assert answer.json()["error"]["type"] == ("api_error" if status == 503 else "invalid_request_error")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param("empty-page,at=2", [], id="an empty page that says there is more"),
        pytest.param("cursor-loop,at=2", ["c_3", "c_2"], id="the list begins again"),
        pytest.param("cursor-loop,at=2,collection=stripe:price", ["c_1", "c_0"], id="of another collection"),
        pytest.param("empty-page,path=/v1/events", ["c_1", "c_0"], id="of another path"),
    ],
)
def test_a_list_goes_wrong_as_it_is_asked_to(fault: str, expected: list[str]) -> None:
    with sandbox_shop(faults=(fault,)) as shop:
        for number in range(4):
            shop.post("customers", id=f"c_{number}")
        ask(shop, "/v1/customers?limit=2")
        page = ask(shop, "/v1/customers?limit=2&starting_after=c_2").json()

    assert [each["id"] for each in page["data"]] == expected
    assert page["has_more"] is (expected != ["c_1", "c_0"])


def test_more_requests_than_an_account_may_send_in_a_second_are_refused() -> None:
    with sandbox_shop(requests_per_second=2) as shop:
        statuses = [ask(shop, "/v1/account").status_code for _ in range(8)]

    assert statuses[:2] == [200, 200]
    assert 429 in statuses


def test_what_is_no_record_of_stripe_is_left_out(shop: SandboxShop) -> None:
    lines = [
        {"collection_id": "github:user", "sync": {"id": "s1"}, "upstream_id": "u", "data": {}},
        {"collection_id": "stripe:customer", "sync": {"id": "s1"}, "data": {"id": "nameless"}},
        {"collection_id": "stripe:customer", "sync": {"id": "s1"}, "upstream_id": "c", "data": [1]},
        {"collection_id": "stripe:customer", "sync": {"id": "s1"}, "upstream_id": "gone", "deleted": True},
        {"collection_id": "stripe:customer", "sync": {"id": "s1"}, "upstream_id": "good", "data": {"balance": 1.10}},
    ]
    shop.stranger.post("/_sandbox/records", content="\n".join(map(json.dumps, lines))).raise_for_status()

    assert ids(shop, "/v1/customers") == ["good"]
    assert ask(shop, "/v1/customers/gone").json()["deleted"] is True
    assert '"balance":1.1' in ask(shop, "/v1/customers/good").text
