"""This module lets one partition that the API refuses, as a repository that is gone, keep nobody from the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.sources.http.failures import StatusRefused


class Refusals:
    """These are the refusals of one read, by the numbers of their partitions, from 1."""

    def __init__(self) -> None:
        self._refused: dict[int, StatusRefused] = {}

    @contextmanager
    def of_one(self, number: int) -> Iterator[None]:
        """Takes note of a refusal, so that the next partition can be read; a key that is not accepted is refused for all of them."""
        try:
            yield
        except StatusRefused as refused:
            if refused.status == HTTPStatus.UNAUTHORIZED:
                raise
            self._refused[number] = refused

    def end(self, partitions: int) -> None:
        """Raises SourceRefused where there were any; values of `each` may be secret, so that their places are told."""
        if not self._refused:
            return
        first = next(iter(self._refused.values()))
        if partitions == 1:
            raise first
        numbers = ", ".join(map(str, self._refused))
        raise SourceRefused(
            f"{first} (for {len(self._refused):,} of the {partitions:,} partitions, counted in the order of `each`: {numbers}; what the "
            "others have is stored)"
        ) from first
