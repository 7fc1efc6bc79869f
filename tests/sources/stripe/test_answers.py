"""Answers that Stripe does not give: nothing is taken for deleted or for read to its end because of one."""

from collections.abc import Iterator

import pytest

from sequin_pipeline.errors import SourceFault
from tests.sources.stripe.fake import START, FakeStripe, fake_stripe
from tests.sources.stripe.syncing import PLAIN, Runs
from tests.support.reading import query

DAY = 86_400


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        for name in "abc":
            fake.put("price", name, created=START - 60, nickname=name)
        yield fake


@pytest.fixture
def runs(fake: FakeStripe, warehouse_url: str) -> Runs:
    """That have seen everything once."""
    runs = Runs(fake.url, warehouse_url, objects=PLAIN, now=fake.clock)
    runs.sync("price")
    return runs


def test_an_object_without_an_id_is_one_open_reject_and_while_it_is_listed_nothing_is_taken_for_deleted(
    fake: FakeStripe, runs: Runs
) -> None:
    nameless = {"id": None, "object": "price", "created": START - 61, "nickname": "whose?"}
    fake.kinds["/v1/prices"]["nameless"] = nameless
    fake.remove("price", "a")
    outcomes = []
    for _ in range(2):
        fake.now += 2 * DAY
        outcomes.append(runs.sync("price"))
    marked = runs.deleted("price")
    rejects = query(runs.warehouse_url, "select class, resolved_at, raw from sequin_pipeline.rejects")
    fake.kinds["/v1/prices"].pop("nameless")
    fake.now += 2 * DAY
    runs.sync("price")

    assert [(each.counts.fetched, each.counts.unchanged, each.counts.rejected) for each in outcomes] == [(3, 2, 1)] * 2
    assert marked == set()
    raw = (
        b'{"collection_id":"stripe:price","provider":"stripe","sync":{"id":"main","external_id":"tenant-1","metadata":{"region":"eu"}},'
        b'"data":{"id":null,"object":"price","created":%d,"nickname":"whose?"}}' % (START - 61)
    )
    assert rejects == [("envelope", None, raw)]
    said = "main: something in the list has no id and waits as a reject, so no object counts as deleted"
    assert all(said in each.notes for each in outcomes)
    assert runs.deleted("price") == {"a"}


@pytest.mark.parametrize("created", ["2026-02-02", 1.5, None, True], ids=repr)
def test_an_object_whose_time_cannot_be_told_is_stored_as_it_came(fake: FakeStripe, runs: Runs, created: object) -> None:
    fake.page_records = 1
    fake.put("price", "b", event="price.updated")
    fake.now += 60
    fake.kinds["/v1/prices"]["b"]["created"] = created

    runs.sync("price")

    assert runs.live("price") == fake.listed("price")


@pytest.mark.parametrize("path", ["/v1/prices", "/v1/events"])
def test_an_empty_page_that_says_there_is_more_is_no_end(fake: FakeStripe, runs: Runs, path: str) -> None:
    fake.page_records = 1
    fake.put("price", "b", event="price.updated", nickname="changed")
    fake.put("price", "c", event="price.updated", nickname="changed")
    fake.now += 2 * DAY if path == "/v1/prices" else 60
    fake.faults.replace([f"empty-page,path={path},from=2"])

    with pytest.raises(SourceFault, match="the page is empty, but more is to come"):
        runs.sync("price")
    marked = runs.deleted("price")
    fake.faults.replace([])
    fake.now += 3600
    runs.sync("price")

    assert marked == runs.deleted("price") == set()
    assert runs.live("price") == fake.listed("price")


def test_a_page_on_which_nothing_has_an_id_is_no_end(fake: FakeStripe, runs: Runs) -> None:
    fake.page_records = 1
    fake.kinds["/v1/prices"]["nameless"] = {"id": None, "object": "price", "created": START}
    fake.now += 2 * DAY

    with pytest.raises(SourceFault, match="no object on a page has an id, but more are to come"):
        runs.sync("price")

    assert (set(runs.live("price")), runs.deleted("price")) == ({"a", "b", "c"}, set())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"status": "maintenance"}, id="something else"),
        pytest.param({"id": None, "object": "price"}, id="no id"),
        pytest.param([], id="a list"),
    ],
)
def test_an_object_that_is_read_again_and_is_none_is_not_taken_for_deleted(fake: FakeStripe, runs: Runs, body: object) -> None:
    fake.now += 60
    fake.put("price", "b", event="price.updated", nickname="changed")
    fake.instead["/v1/prices/b"] = body

    with pytest.raises(SourceFault, match="an answer that is not Stripe's"):
        runs.sync("price")
    marked = runs.deleted("price")
    fake.instead.clear()
    runs.sync("price")

    assert marked == runs.deleted("price") == set()
    assert runs.live("price") == fake.listed("price")
