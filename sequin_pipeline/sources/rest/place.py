"""This module says up to which version a list without the order of its versions is known, once it has been read to its end."""

from sequin_pipeline.reads import Read
from sequin_pipeline.sources.keyed.times import MICROSECOND, SKEW, micros
from sequin_pipeline.sources.rest.lists import ListPage

_SKEW_MICROS = SKEW // MICROSECOND


class Place:
    """A place in such a list takes note of its pages.

    What changes while it is read may have been passed before: nothing is known beyond the time at which that began, or beyond the first
    object of a list that begins with the newest.
    """

    def __init__(self, read: Read, *, latest: int) -> None:
        """Takes the `latest` version that can be true."""
        self._read = read
        self._latest = latest
        self._bound: int | None = None
        self._newest: int | None = None

    def look(self, page: ListPage) -> None:
        """Takes note of a page."""
        newest = page.newest_until(self._latest)
        if self._bound is None:
            began = micros(page.received_at) - _SKEW_MICROS
            self._bound = newest if self._read.is_descending and newest is not None else began
        self._newest = max((version for version in (self._newest, newest) if version is not None), default=None)

    @property
    def reached(self) -> int | None:
        """This is the version up to which everything is known; None in a list that is in order, of which each page tells."""
        return None if self._newest is None or self._read.is_ascending else self.within(self._newest)

    def within(self, version: int) -> int:
        """Returns the version, or what is known at most."""
        return version if self._bound is None or self._read.is_ascending else min(version, self._bound)
