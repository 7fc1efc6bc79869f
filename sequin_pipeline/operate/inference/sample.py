"""This module takes a sample of a collection's records, and finds the fields that its objects have."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sequin_pipeline.catalog import Collection, SourceDeclaration, Windows, default_table
from sequin_pipeline.normalize.normalizer import NormalizedPages, Normalizer, Reject
from sequin_pipeline.records import json_text
from sequin_pipeline.records.json_text import Kind, kind_of
from sequin_pipeline.sources import Page

MIN_ALIKE = 10
MAX_ALIKE_KEYS = 40
MIN_ALIKE_SHARE = 0.5
"""A field is taken apart when each key is in at least this share of its objects: otherwise it may be a map, whose keys are data.

It must have held that many objects, with no more keys in all.
"""
MAX_DEPTH = 3


@dataclass(frozen=True)
class Sample:
    """A sample is records of one collection: those that break the API's promises are `rejects`, the others' objects are in `objects`.

    `objects` are JSON texts; `pages` are JSON arrays as they came.
    """

    pages: tuple[bytes, ...] = field(repr=False)
    objects: tuple[bytes, ...] = field(repr=False)
    records: int
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True)
class SampledField:
    """This value is a field at `steps`: the texts of the values that are not null, of `objects` objects."""

    steps: tuple[str, ...]
    values: tuple[bytes, ...] = field(repr=False)
    objects: int

    @property
    def kinds(self) -> frozenset[Kind]:
        """These are the kinds of the values; there are none when all are null."""
        return frozenset(map(kind_of, self.values))

    @property
    def null_share(self) -> float:
        """This is the share of the objects in which the field is null or absent."""
        return 1 - len(self.values) / self.objects if self.objects else 1.0


def bare_collection(provider: str, name: str, source: SourceDeclaration = SourceDeclaration()) -> Collection:  # noqa: B008 - frozen
    """Returns the collection with the record's own columns only, for reading a sample of it."""
    windows = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
    return Collection(provider, name, default_table(provider, name), windows, source=source)


def read_sample(pages: Iterable[Page], collection: Collection, *, wanted_records: int) -> Sample:
    """Reads until that many records have come, or the stream ends; the last page is taken whole."""
    normalize = Normalizer(collection)
    read: list[NormalizedPages] = []
    for page in pages:
        read.append(normalize(page.records))
        if sum(normalized.fetched for normalized in read) >= wanted_records:
            break
    return Sample(
        pages=tuple(page for normalized in read for page in normalized.pages),
        objects=tuple(text.encode() for normalized in read for text in normalized.frame["data"].dropna()),
        records=sum(normalized.fetched for normalized in read),
        rejects=tuple(reject for normalized in read for reject in normalized.rejects),
    )


def fields_of(sample: Sample, *, wholes: bool = False) -> tuple[SampledField, ...]:
    """Returns every field of the objects, in the order in which they are first met.

    Objects that are alike are taken apart, and with `wholes` stand before their parts.
    """
    return tuple(_fields(sample.objects, (), of=len(sample.objects), wholes=wholes))


def fields_of_objects(objects: Sequence[bytes]) -> tuple[SampledField, ...]:
    """Returns every field of these objects, as of those of a sample."""
    return tuple(_fields(objects, (), of=len(objects), wholes=False))


def _fields(objects: Sequence[bytes], prefix: tuple[str, ...], *, of: int, wholes: bool) -> Iterator[SampledField]:
    values: dict[str, list[bytes]] = {}
    for text in objects:
        for key, value in json_text.members(text).items():
            found = values.setdefault(key, [])
            if kind_of(value) != "null":
                found.append(value)
    for key, found in values.items():
        steps = (*prefix, key)
        has_parts = len(steps) < MAX_DEPTH and are_alike(found)
        if wholes or not has_parts:
            yield SampledField(steps, tuple(found), of)
        if has_parts:
            yield from _fields(found, steps, of=of, wholes=wholes)


def are_alike(values: Sequence[bytes]) -> bool:
    """Says whether values are objects with the same fields, rather than maps, whose keys are data."""
    if len(values) < MIN_ALIKE or any(kind_of(value) != "object" for value in values):
        return False
    keys = Counter(key for value in values for key in json_text.members(value))
    return 0 < len(keys) <= MAX_ALIKE_KEYS and min(keys.values()) >= MIN_ALIKE_SHARE * len(values)
