"""This reader reads one record at a time, exactly: it says why a record cannot be stored, and decides whatever is unusual.

It is about ten times slower than page_reader.py, and the one of the two that is right by definition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from sequin_pipeline.catalog import Collection, Column
from sequin_pipeline.normalize.child_elements import Element, ListMisfit, read_lists
from sequin_pipeline.normalize.json_decoders import Steps
from sequin_pipeline.normalize.value_casts import Value, cast
from sequin_pipeline.records import json_text
from sequin_pipeline.records.envelope import Envelope, RecordRejected, read_envelope
from sequin_pipeline.records.json_text import kind_of, show
from sequin_pipeline.records.literals import InvalidLiteral


@dataclass(frozen=True)
class ExactRecord:
    """This value is a record as the frame holds it, by column name, and why some declared values do not fit (they are None).

    `missing` names the required columns among those. `lists` are the rows of child tables, by the frame's names; empty where one of them
    does not fit.
    """

    values: Mapping[str, Value]
    misfits: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    lists: Mapping[str, Sequence[Element]] = field(default_factory=dict)


class RecordReader:
    """This reader reads records of one collection."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def read(self, raw: bytes) -> ExactRecord:
        """Reads one record; raises RecordRejected for what is wrong with the record itself rather than with a declared value."""
        fault = json_text.find_fault(raw)
        if fault is not None:
            raise RecordRejected(f"the record is not JSON: {fault}; fix the source", "envelope", None)
        if kind_of(raw) != "object":
            raise RecordRejected(f"the record is {show(raw)}, where an object was expected: fix the source", "envelope", None)
        try:
            return self._read(json_text.members(raw))
        except ValueError as error:
            # Nested too deeply for find_fault to have seen it.
            raise RecordRejected(f"the record is not JSON: {error}; fix the source", "envelope", None) from error

    def _read(self, record: Mapping[str, bytes]) -> ExactRecord:
        envelope = read_envelope(record, self._collection)
        data = envelope.data
        unstorable = json_text.find_unstorable(data) if data is not None else None
        if unstorable is not None:
            raise RecordRejected(
                f"data holds {unstorable}, which neither jsonb nor text can hold: fix the object at the provider",
                "value",
                envelope.id,
            )
        roots = {"record": record, "data": {} if data is None else json_text.members(data)}
        values: dict[str, Value] = {one.name: getattr(envelope, one.name) for one in fields(Envelope)}
        values["data"] = None if data is None else data.decode()
        misfits, missing = [], []
        for column in self._collection.columns:
            found = _find(roots[column.path.root], column.path.steps)
            try:
                values[column.name] = _cast(column, found, carries_object=data is not None)
            except InvalidLiteral as invalid:
                values[column.name] = None
                misfits.append(_misfit(column, found, invalid))
                if isinstance(invalid, Missing):
                    missing.append(column.name)
        lists, misfit = self._lists(data)
        return ExactRecord(values, (*misfits, *misfit), tuple(missing), lists)

    def _lists(self, data: bytes | None) -> tuple[Mapping[str, list[Element]], list[str]]:
        try:
            return read_lists(self._collection.children, data), []
        except ListMisfit as misfit:
            return {}, [str(misfit)]


class Missing(InvalidLiteral):
    """A required column has no value."""


def _cast(column: Column, raw: bytes, *, carries_object: bool) -> Value:
    value = cast(column, raw)
    if value is None and column.is_required and carries_object:
        raise Missing("a value (the column is required)")
    return value


def _find(root: Mapping[str, bytes], steps: Steps) -> bytes:
    """Returns the text of the value at a path, or `null` where the path leads nowhere."""
    found = root.get(steps[0], b"null") if isinstance(steps[0], str) else b"null"
    return json_text.find_value(found, steps[1:])


def _misfit(column: Column, found: bytes, invalid: InvalidLiteral) -> str:
    return (
        f"column {column.name!r} (path {column.path}, {column.type}) found {show(found)}, where {invalid} was expected: "
        "fix the value at the provider or the column's declaration"
    )
