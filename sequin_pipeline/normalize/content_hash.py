"""This hash tells everything that is written from a record: equal means unchanged, without comparing the columns.

128 bits of XXH3 over an unambiguous framing: a head of 64-bit words, little-endian (the declaration's fingerprint; a validity and a
value for each column of fixed size; the length of each other column, -1 for null), then the bytes of those columns one after the
other. `data` stands in the head by its length and its own 128 bits, so that the largest column is read once and never copied.

What is declared of `data` is not in it: those values follow from the object's bytes and from the declaration, and the fingerprint of
that is. So a record that is known need not have them parsed. A cast that gives another value for the same text, or that accepts
a text that it refused, must change the column's fingerprint (catalog.Column), by which it is also filled again.

The hash is stored, and another framing would have every row that comes again compared by its columns. Rows of builds before this
framing have one over all columns (`earlier_fingerprint`): it is accepted beside this one, and stays until the row changes.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from sequin_pipeline.catalog import Collection

HASH_BYTES = 16
_WORD = np.dtype("<i8")
_BITS = {pa.float64(): pa.int64(), pa.date32(): pa.int32(), pa.timestamp("us", "UTC"): pa.int64()}
"""These types are hashed as the integer with the same bits."""


def declaration_fingerprint(collection: Collection) -> bytes:
    """Returns a fingerprint that changes with every column's name and declaration, with their order, and with the type of `data`.

    Also with `required`, which decides whether a record is stored at all. After a change from jsonb to json, what is read again is
    written again, as it came.
    """
    columns = [[column.name, column.fingerprint, column.is_required] for column in collection.columns]
    return xxhash.xxh3_128_digest(msgspec.json.encode([columns, collection.data_type]))


def earlier_fingerprint(collection: Collection) -> bytes:
    """Returns the fingerprint of the framing in which the declared values were hashed, too."""
    columns = [[column.name, column.fingerprint] for column in collection.columns]
    return xxhash.xxh3_128_digest(msgspec.json.encode(columns))


def content_hashes(columns: Sequence[pa.Array], data: pa.Array, fingerprint: bytes) -> pa.Array:
    """Returns one hash a row, as fixed-size binary, over `columns` and `data`.

    They are of one length and neither sliced nor empty.
    """
    fixed = [column for column in columns if _is_fixed(column)]
    flat = [_binary(column) for column in columns if not _is_fixed(column)]
    words: list[np.ndarray | int] = [*np.frombuffer(fingerprint, _WORD)]
    for column in fixed:
        words += [_validity(column), _value(column)]
    words += [_length(column) for column in flat]
    words += [_length(data), *np.frombuffer(_digests(data), _WORD).reshape(-1, 2).T]
    heads = np.empty((len(data), len(words)), _WORD)
    for place, word in enumerate(words):
        heads[:, place] = word
    framed = pc.binary_join_element_wise(_rows_as_binary(heads), *flat, b"", null_handling="replace", null_replacement=b"")
    return pa.Array.from_buffers(pa.binary(HASH_BYTES), len(data), [None, pa.py_buffer(_digests(framed))])


def _is_fixed(column: pa.Array) -> bool:
    is_fixed: bool = pa.types.is_primitive(column.type)
    return is_fixed


def _binary(column: pa.Array) -> pa.Array:
    if not pa.types.is_list(column.type):
        return column.view(pa.binary())
    return pa.array([None if items is None else msgspec.json.encode(items) for items in column.to_pylist()], pa.binary())


def _validity(column: pa.Array) -> np.ndarray | int:
    return pc.is_valid(column).to_numpy(zero_copy_only=False) if column.null_count else 1


def _value(column: pa.Array) -> np.ndarray:
    """Returns the bits of each value as an integer, 0 for null."""
    integers = column.view(_BITS.get(column.type, column.type)).cast(pa.int64())
    values: np.ndarray = (integers.fill_null(0) if column.null_count else integers).to_numpy()
    return values


def _length(column: pa.Array) -> np.ndarray:
    lengths: np.ndarray = pc.binary_length(column).fill_null(-1).to_numpy()
    return lengths


def _rows_as_binary(heads: np.ndarray) -> pa.Array:
    rows, words = heads.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * (words * _WORD.itemsize)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(heads.tobytes())])


def _digests(contents: pa.Array) -> bytes:
    """Returns the hashes of the elements, one after the other; null has the hash of no bytes."""
    # What lies behind a null of an Arrow array is undefined, and need not be empty.
    filled = contents.fill_null("") if contents.null_count else contents
    _, offset_buffer, content_buffer = filled.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[: len(contents) + 1].tolist()
    content = memoryview(content_buffer or b"")
    digest = xxhash.xxh3_128_digest
    return b"".join([digest(content[start:end]) for start, end in pairwise(offsets)])
