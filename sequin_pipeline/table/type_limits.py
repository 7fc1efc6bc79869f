"""This module finds what a column's type would change in silence, in whole columns before they are staged. Pure.

Postgres raises for most of what does not fit, and the row at fault is then found (bad_rows.py). These are the cases in which it cuts,
rounds or folds instead.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.records.literals import DECIMAL, exponent_of

SECOND_DIGITS = 6
"""Every time in a frame has this many digits of a second."""


LAST_MICROSECOND = 253_402_300_799_999_999
"""This is 9999-12-31T23:59:59.999999Z: the greatest time that a record may bring."""


class Limit(Protocol):
    """This class says what the values of a column must keep to; `expected` completes "the column takes …"."""

    @property
    def expected(self) -> str: ...

    def keeps(self, values: pa.Array) -> pa.Array:
        """Says for each value whether it passes; null for null."""
        ...


@dataclass(frozen=True)
class MaxCharacters:
    """This limit is that of `varchar(n)`: longer texts raise, unless what is too much are spaces, which are cut."""

    characters: int

    @property
    def expected(self) -> str:
        """This says what `Limit` asks for."""
        return f"at most {self.characters} characters"

    def keeps(self, values: pa.Array) -> pa.Array:
        """Answers as `Limit` says."""
        return pc.less_equal(pc.utf8_length(values), self.characters)


@dataclass(frozen=True)
class WholeNumbers:
    """This limit says what an integer type holds: Postgres raises beyond it without naming the column."""

    bits: int

    @property
    def expected(self) -> str:
        """This says what `Limit` asks for."""
        return f"whole numbers from {-(2 ** (self.bits - 1))} to {2 ** (self.bits - 1) - 1}"

    def keeps(self, values: pa.Array) -> pa.Array:
        """Answers as `Limit` says."""
        numbers = values.cast(pa.int64())
        return pc.and_(pc.greater_equal(numbers, -(2 ** (self.bits - 1))), pc.less_equal(numbers, 2 ** (self.bits - 1) - 1))


@dataclass(frozen=True)
class Decimals:
    """This limit is that of `numeric(p, s)`: more digits behind the point are rounded."""

    digits: int

    @property
    def expected(self) -> str:
        """This says what `Limit` asks for."""
        if self.digits < 0:
            return f"multiples of {10**-self.digits}"
        return f"at most {self.digits} digits behind the point"

    def keeps(self, values: pa.Array) -> pa.Array:
        """Answers as `Limit` says."""
        kept = [None if text is None else last_place(text) >= -self.digits for text in values.to_pylist()]
        return pa.array(kept, pa.bool_())


def last_place(text: str) -> int:
    """Returns the power of ten of the last digit that is not zero: -2 for `1.250`, 3 for `5e3`."""
    found = DECIMAL.fullmatch(text)
    assert found is not None  # noqa: S101 - what a numeric column of a frame holds
    fraction = found["fraction"] or found["bare"] or ""
    digits = (found["whole"] or "") + fraction
    significant = digits.rstrip("0")
    return exponent_of(found["exponent"]) - len(fraction) + len(digits) - len(significant) if significant else 0


@dataclass(frozen=True)
class SecondDigits:
    """This limit is that of `timestamp(p)`: further digits of a second are rounded."""

    digits: int

    @property
    def expected(self) -> str:
        """This says what `Limit` asks for."""
        return f"times with at most {self.digits} digits of a second (or say `round: true` below `table`)"

    def keeps(self, values: pa.Array) -> pa.Array:
        """Answers as `Limit` says."""
        return pc.equal(values, rounded(values, self.digits))


def rounded(values: pa.Array, digits: int) -> pa.Array:
    """Returns the nearest times with that many digits of a second."""
    step = 10 ** (SECOND_DIGITS - digits)
    microseconds = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    # The last time of the year 9999 has no neighbour above it that any reader knows.
    nearest = np.minimum((microseconds + step // 2) // step * step, LAST_MICROSECOND // step * step)
    return pa.array(nearest, pa.int64(), mask=values.is_null().to_numpy(zero_copy_only=False)).cast(values.type)


@dataclass(frozen=True)
class Canonical:
    """This limit is for a text in a column of another type.

    Two spellings of one value would become one row, or come back otherwise than they came.
    """

    type: str
    pattern: str

    @property
    def expected(self) -> str:
        """This says what `Limit` asks for."""
        return f"a {self.type} as Postgres itself writes it"

    def keeps(self, values: pa.Array) -> pa.Array:
        """Answers as `Limit` says."""
        return pc.match_substring_regex(values, self.pattern)


CANONICAL_UUID = Canonical("uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
CANONICAL_INTEGER = Canonical("whole number", "^(0|-?[1-9][0-9]*)$")


@dataclass(frozen=True)
class NotNull:
    """This limit is for a key: rows without a value in it never meet."""

    expected: str = "a value in every row, for it is part of the key"

    def keeps(self, values: pa.Array) -> pa.Array:
        """Answers as `Limit` says."""
        return pa.array(np.asarray(values.is_valid()))
