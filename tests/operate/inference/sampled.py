"""Samples for tests: objects in the envelope, as a page of the API."""

import json
from collections.abc import Sequence

from sequin_pipeline.operate.inference.sample import Sample, bare_collection, read_sample
from tests.support.builders import page_of, record

COLLECTION = bare_collection("demo", "thing")


def sample_of(*objects: object) -> Sample:
    records = [record(f"r{number}", number + 1, data=data) for number, data in enumerate(objects)]
    return read_sample([page_of(records, None)], COLLECTION, wanted_records=len(records))


def sample_of_texts(objects: Sequence[str]) -> Sample:
    """Of objects whose JSON text matters: numbers with more digits than a float has."""
    placeholders = [record(f"r{number}", number + 1, data=f"@{number}@") for number in range(len(objects))]
    text = json.dumps(placeholders)
    for number, data in enumerate(objects):
        text = text.replace(f'"@{number}@"', data)
    page = page_of([], None)
    return read_sample([type(page)(text.encode(), None, page.received_at)], COLLECTION, wanted_records=len(objects))
