"""This module compares what the sources say that they offer with what is declared.

That is never a reason for a command to fail: where a source cannot say, or does not answer, that is reported and nothing else.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError, SourceError


@dataclass(frozen=True)
class Offer:
    """This value is what one source offers, and the collections that are declared to be read from it."""

    offered: frozenset[str]
    declared: tuple[Collection, ...]

    @property
    def undeclared(self) -> frozenset[str]:
        """These are the ids of collections that nobody has declared."""
        return self.offered - {collection.id for collection in self.declared}

    def unknown(self) -> Iterator[tuple[Collection, str]]:
        """Yields each declared collection that the source does not know, with a sentence about it."""
        for collection in self.declared:
            if collection.id not in self.offered:
                yield (
                    collection,
                    f"{collection.label}: the source offers no collection {collection.id!r}, so that no record of it can come: fix its "
                    "name in the defs.yaml, or have it synced there",
                )


def offers(collections: Iterable[Collection]) -> list[Offer]:
    """Asks each source that can say what it offers; what could not be asked is reported on stderr."""
    from sequin_pipeline.sources.registry import open_source

    wanted, found = list(collections), []
    while wanted:
        declaration = wanted[0].source
        declared = tuple(collection for collection in wanted if collection.source == declaration)
        wanted = [collection for collection in wanted if collection.source != declaration]
        try:
            offered = open_source(declaration, os.environ).collection_ids()
        except (SourceError, ConfigurationError) as error:
            click.echo(f"\nWhat {declaration.kind!r} offers could not be found out: {error}", err=True)
            continue
        if offered is not None:
            found.append(Offer(offered, declared))
    return found
