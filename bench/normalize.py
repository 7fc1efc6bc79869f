"""What a record costs on its way from page bytes to frame: `python -m bench.normalize`.

CPU microseconds a record, best and median of some rounds: the best is the cost, the distance to the median is the noise of the
machine. The floor is what msgspec needs to look at every byte of a page once.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bench.collection import COLLECTION
from bench.records import PAGE_RECORDS, record
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.normalize.page_reader import PageReader
from sequin_pipeline.normalize.record_reader import RecordReader

PAGES = 5
ROUNDS = 25


def main() -> None:
    pages = [page(start) for start in range(0, PAGES * PAGE_RECORDS, PAGE_RECORDS)]
    elements = [[bytes(raw) for raw in msgspec.json.decode(each, type=list[msgspec.Raw])][:100] for each in pages]
    reader, records, normalizer = PageReader(COLLECTION), RecordReader(COLLECTION), Normalizer(COLLECTION)
    print(f"{PAGES} pages of {PAGE_RECORDS} records of {len(pages[0]) // PAGE_RECORDS} bytes; CPU microseconds a record")
    show("floor: every byte looked at once", msgspec.json.Decoder(list[msgspec.Raw]).decode, pages)
    show("page to typed columns", lambda page: reader.read([reader.parse(page)]), pages)
    show("page to frame, hash included", normalizer, pages)
    show(
        "all pages to one frame",
        lambda together: normalizer.normalize([normalizer.parse(page) for page in together]),
        [pages],
        records=PAGES * PAGE_RECORDS,
    )
    show("one by one, as after a fault", lambda raws: [records.read(raw) for raw in raws], elements, records=100)


def show(label: str, stage: Callable[[Any], object], pages: Sequence[object], *, records: int = PAGE_RECORDS) -> None:
    costs = sorted(cpu_seconds(stage, pages) / len(pages) / records * 1e6 for _ in range(ROUNDS))
    print(f"{label:34} {costs[0]:6.2f} best {statistics.median(costs):6.2f} median")


def cpu_seconds(stage: Callable[[Any], object], pages: Sequence[object]) -> float:
    started = time.process_time()
    for each in pages:
        stage(each)
    return time.process_time() - started


def page(start: int) -> bytes:
    """A page of the bench's own records."""
    numbers = range(start, start + PAGE_RECORDS)
    return f"[{','.join(record(number, 0, of=PAGES * PAGE_RECORDS) for number in numbers)}]".encode()


if __name__ == "__main__":
    main()
