"""The pipeline itself, in a plain process: `python -m bench.pipeline`, a contestant.

Options: `part` is "whole" (from HTTP to the table) or "source" (the pages fetched and thrown away: what the API alone could deliver);
`lanes`, how many connections write.
"""

from collections.abc import Callable, Mapping
from uuid import uuid4

from bench import child
from bench.collection import collection_in, live_plan
from sequin_pipeline.outcome import SyncOutcome
from sequin_pipeline.sources import ReadRequest
from sequin_pipeline.sources.sequin import SequinSource
from sequin_pipeline.stream import RecordStream
from sequin_pipeline.sync import run_sync
from sequin_pipeline.warehouse import Warehouse

CONTINUING_PHASES = ("new", "nothing_new")
"""They go on from the live cursor; the others read the stream from its beginning, in which records have changed or not."""


def main() -> None:
    place = child.place()
    source, collection = SequinSource(place.api_url), collection_in(place.schema)
    lanes = int(place.options.get("lanes", 1))

    def run(task: child.Task) -> Mapping[str, float]:
        plan = live_plan(collection, full_refresh=task.phase not in CONTINUING_PHASES)
        return notes_of(run_sync(RecordStream(plan, source), Warehouse(place.database_url), run_id=str(uuid4()), lanes=lanes))

    def drain(task: child.Task) -> Mapping[str, float]:
        pages = source.pages(ReadRequest(frozenset({collection.id})))
        return {"requests": sum(page.cost.requests for page in pages)}

    work = {"whole": run, "source": drain}[place.options["part"]]

    def prepare(task: child.Task) -> Callable[[], Mapping[str, float]]:
        return lambda: work(task)

    child.compete(prepare)


def notes_of(outcome: SyncOutcome) -> dict[str, float]:
    """Counts, and the seconds of each stage."""
    counts = outcome.counts
    return {
        "requests": outcome.requests,
        "pages": outcome.pages,
        "fetched": counts.fetched,
        "inserted": counts.inserted,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
        **{f"{stage}_seconds": seconds for stage, seconds in outcome.seconds.items()},
    }


if __name__ == "__main__":
    main()
