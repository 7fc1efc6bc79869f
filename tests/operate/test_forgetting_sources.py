"""Forgotten between runs of real sources: a listing, events, objects asked for one by one, and connectors bring nothing of it back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.operate.forgetting.forget import forget
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.records.forgotten import Subject
from tests.sources.connectors import child
from tests.sources.rest import reading
from tests.sources.stripe.fake import fake_stripe
from tests.sources.stripe.syncing import PLAIN, Runs, stripe_collection
from tests.support.leaving import MARKER
from tests.support.markers import holding
from tests.support.reading import query
from tests.support.rest_api import fake_rest
from tests.support.syncing import sync

THEIRS = f"t_{MARKER}"
Step = Callable[[], object]


@contextmanager
def stripe(url: str, folder: Path) -> Iterator[tuple[Collection, str, list[Step]]]:
    """Listed, then told of by events, and then listed again."""
    with fake_stripe() as fake:
        runs = Runs(fake.url, url, objects=PLAIN, now=fake.clock)

        def change(amount: int) -> None:
            fake.now += 60
            for object_id in (THEIRS, "other"):
                fake.put("price", object_id, event="price.updated", nickname=f"of {object_id}", unit_amount=amount)

        def again() -> None:
            fake.now += 90_000
            runs.sync("price")

        def told() -> None:
            change(2)
            runs.sync("price")

        change(1)
        yield stripe_collection("price"), "main", [lambda: runs.sync("price"), told, again]


@contextmanager
def detail(url: str, folder: Path) -> Iterator[tuple[Collection, str, list[Step]]]:
    with fake_rest(order=1) as fake:
        runs = reading.Runs(fake, url, replace(reading.LIST, detail="things/{id}"))

        def change(amount: int) -> None:
            fake.now += timedelta(minutes=1)
            fake.put(THEIRS, status=f"of {MARKER}", amount=amount)
            fake.put("other", status="active", amount=amount)

        def again() -> None:
            fake.now += timedelta(days=2)
            runs.sync()

        def changed() -> None:
            change(2)
            runs.sync()

        change(1)
        yield reading.THING, "default", [runs.sync, changed, again]


def connector(kind: str) -> Callable[[str, Path], object]:
    @contextmanager
    def running(url: str, folder: Path) -> Iterator[tuple[Collection, str, list[Step]]]:
        def run(number: int) -> object:
            things = [child.thing(THEIRS, 10 * number, number), child.thing("other", 10 * number + 1, number)]
            # A tap says nothing of its end.
            steps = child.good_read(*things)[: 3 if kind == "airbyte" else 2]
            source = child.open_child(folder, *steps, kind=kind, now=child.START + timedelta(days=2 * number))
            return sync(url, of=child.THING, source=source, run_id=f"run {number}")

        yield child.THING, "default", [lambda: run(1), lambda: run(2), lambda: run(3)]

    return running


@pytest.mark.parametrize(
    ("source", "by"),
    [
        pytest.param(stripe, "record", id="stripe, an object"),
        pytest.param(stripe, "sync", id="stripe, an account"),
        pytest.param(detail, "record", id="rest, an object that is asked for by itself"),
        pytest.param(connector("airbyte"), "record", id="airbyte, an object", marks=pytest.mark.processes),
        pytest.param(connector("singer"), "sync", id="singer, all of it", marks=pytest.mark.processes),
    ],
)
def test_what_is_forgotten_between_two_runs_of_a_source_stands_nowhere_but_in_its_own_place(
    warehouse_url: str, tmp_path: Path, source: Callable[..., object], by: str
) -> None:
    """The live cursor is the source's own word, and may name the object at which it came to stand."""
    with source(warehouse_url, tmp_path) as (of, sync_id, (first, second, again)):  # type: ignore[attr-defined]  # a context manager
        first()
        before = holding(warehouse_url, MARKER)
        subject = Subject("sync_id", sync_id)
        if by == "record":
            subject = Subject("record", derived_id(sync_id, of.id, THEIRS), of.label)

        forget(Warehouse(warehouse_url), subject, [of])
        found = [set(holding(warehouse_url, MARKER))]
        for step in (second, again):
            step()
            found.append(set(holding(warehouse_url, MARKER)))

    assert before[str(of.table)] == 1
    assert set().union(*found) <= {"sequin_pipeline.cursors"}
    assert query(warehouse_url, f"select upstream_id from {of.table}") == ([] if by == "sync" else [("other",)])
    assert query(warehouse_url, "select sum(forgotten) > 0 from sequin_pipeline.merges") == [(True,)]
