"""Objects that are odd land byte for byte, or wait as rejects under their own ids, and keep nobody from the others."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.sources.rest.reading import CURSOR, LIST, Runs
from tests.support.reading import query
from tests.support.rest_api import fake_rest

ODD = b'{"id": "t1", "updated_at": "2026-01-01T00:00:02Z", "status": "x", %b}'

LANDS = {
    "decimals": b'"price": 1.10, "long": 0.123456789012345678901234567890',
    "numbers beyond 64 bits": b'"big": 12345678901234567890123, "exact": 9007199254740993',
    "a key that comes twice": b'"dup": 1, "dup": 2',
    "text of many scripts": '"name": "日本 ☃ \\ud83d\\ude00 naïve"'.encode(),
    "negative zero and exponents": b'"zero": -0.0, "thousand": 1e3',
    "a place named like ours": b'"paging": {"next": "9"}, "data": [1, 2], "cursor": "x"',
}
WAITS = {
    "NUL": b'"text": "a\\u0000b"',
    "half of a surrogate pair": b'"text": "\\ud800"',
    "a number beyond every double, and a NUL": b'"huge": 1e400, "text": "\\u0000"',
    "a NUL in a key": b'"\\u0000": 1',
}


@pytest.mark.parametrize("odd", [pytest.param(odd, id=name) for name, odd in LANDS.items()])
def test_odd_object_lands_as_postgres_reads_its_own_bytes(warehouse_url: str, odd: bytes) -> None:
    with fake_rest() as fake:
        fake.fill(4)
        fake.raw["t1"] = ODD % odd
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=CURSOR))
        runs.sync()
        same = query(
            warehouse_url,
            "select data = %s::jsonb from demo.thing where upstream_id = 't1'",
            fake.raw["t1"].decode(),
        )

        assert same == [(True,)]
        assert set(runs.live()) == {"t0", "t1", "t2", "t3"}


@pytest.mark.parametrize("odd", [pytest.param(odd, id=name) for name, odd in WAITS.items()])
def test_object_that_cannot_be_stored_waits_as_a_reject_with_its_id_and_its_bytes(warehouse_url: str, odd: bytes) -> None:
    with fake_rest() as fake:
        fake.fill(4)
        fake.raw["t1"] = ODD % odd
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=CURSOR))
        runs.sync()
        waiting = query(warehouse_url, "select record_id, raw from sequin_pipeline.rejects where resolved_at is null")
        others = query(warehouse_url, "select upstream_id from demo.thing order by 1")
        del fake.raw["t1"]
        fake.put("t1", status="good again")
        runs.sync()

        assert [(record_id is not None, bytes(raw).endswith(odd + b"}}")) for record_id, raw in waiting] == [(True, True)]
        assert others == [("t0",), ("t2",), ("t3",)]
        assert runs.live() == fake.things
        assert query(warehouse_url, "select reason from sequin_pipeline.rejects where resolved_at is null") == []


def test_listing_with_an_odd_object_in_it_marks_only_what_is_gone(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(4)
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=CURSOR), relist_hours=0)
        runs.sync()
        fake.raw["t1"] = ODD % WAITS["NUL"]
        del fake.things["t2"]
        fake.now += timedelta(hours=1)
        runs.sync()

        assert runs.deleted() == {"t2"}
