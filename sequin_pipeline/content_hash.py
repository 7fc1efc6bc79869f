"""A hash of everything that is written from a record: equal means unchanged, without asking for the columns.

128 bits of XXH3 over an unambiguous framing: a fixed head (the declaration's fingerprint, then each fixed-size column as a validity
and a value, then the length of each other column, -1 for null), followed by the bytes of those columns one after the other.
Stable across machines and versions of the libraries: it is stored, and a different one means one comparison in Postgres per row.
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
_PLAIN = {pa.float64(): pa.int64(), pa.date32(): pa.int32(), pa.timestamp("us", "UTC"): pa.int64()}
"""Types whose bits are read as an integer."""


def declaration_fingerprint(collection: Collection) -> bytes:
    """Changes with every column's name and declaration, and with their order."""
    columns = [[column.name, column.fingerprint] for column in collection.columns]
    return xxhash.xxh3_128_digest(msgspec.json.encode(columns))


def content_hashes(arrays: Sequence[pa.Array], fingerprint: bytes) -> pa.Array:
    """One hash a row over all of `arrays`, which are of one length, as fixed-size binary."""
    rows = len(arrays[0])
    flat = [_bytes(array) for array in arrays if not _is_fixed(array)]
    words = [np.broadcast_to(word, rows) for word in np.frombuffer(fingerprint, _WORD)]
    for array in arrays:
        if _is_fixed(array):
            words += [pc.is_valid(array).cast(pa.int64()).to_numpy(), _word(array)]
    words += [pc.fill_null(pc.binary_length(array), -1).to_numpy() for array in flat]
    heads = np.stack(words, axis=1).astype(_WORD)
    return _digests(
        pc.binary_join_element_wise(_rows_as_binary(heads), *flat, b"", null_handling="replace", null_replacement=b"")
    )


def _is_fixed(array: pa.Array) -> bool:
    is_fixed: bool = pa.types.is_primitive(array.type)
    return is_fixed


def _bytes(array: pa.Array) -> pa.Array:
    if not pa.types.is_list(array.type):
        return array.cast(pa.binary())
    return pa.array([None if items is None else msgspec.json.encode(items) for items in array.to_pylist()], pa.binary())


def _word(array: pa.Array) -> np.ndarray:
    """Each value as one 64-bit word, 0 for null."""
    plain = array.view(_PLAIN.get(array.type, array.type))
    filled = pc.fill_null(plain.cast(pa.int64()), 0)
    words: np.ndarray = filled.to_numpy()
    return words


def _rows_as_binary(heads: np.ndarray) -> pa.Array:
    rows, words = heads.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * (words * _WORD.itemsize)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(heads.tobytes())])


def _digests(contents: pa.Array) -> pa.Array:
    _, offset_buffer, content_buffer = contents.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[: len(contents) + 1].tolist()
    content = memoryview(content_buffer)
    digest = xxhash.xxh3_128_digest
    digests = b"".join([digest(content[start:end]) for start, end in pairwise(offsets)])
    return pa.Array.from_buffers(pa.binary(HASH_BYTES), len(contents), [None, pa.py_buffer(digests)])
