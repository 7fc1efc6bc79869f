"""This module is where a source of one's own begins: what most sources that can be read again have in common."""

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity
from sequin_pipeline.sources.kind import Environment


class SourceBase:
    """A source that can be read again needs `identity` and `pages`; what else Source asks for is here, and may be overridden.

    The arguments of its `__init__` are the `options` of a defs.yaml, by name.
    """

    can_reread: ClassVar[bool] = True
    observes_time: ClassVar[Any] = False  # bool, or a frozenset of names of collections: see SourceClass
    identity: SourceIdentity

    @classmethod
    def open(cls, declaration: SourceDeclaration, environment: Environment) -> Self:
        """Builds the source with its options; raises ConfigurationError where they are not the arguments of `__init__`."""
        signature = inspect.signature(cls)
        try:
            signature.bind(**declaration.options)
        except TypeError as error:
            raise ConfigurationError(
                f"`options` of source {declaration.kind!r}: {error}; it takes {', '.join(signature.parameters) or 'none'}"
            ) from error
        return cls(**declaration.options)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Yields the pages, as Source.pages says; what a source has to do itself."""
        raise NotImplementedError

    def committed(self, cursor: str) -> None:
        """Does nothing: what was read can be read again."""

    def head(self, collection_id: str) -> str | None:
        """Returns None: the source cannot say where its stream ends."""

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """Returns nothing: the source does not describe its objects."""
        return ()

    def collection_ids(self) -> frozenset[str] | None:
        """Returns None: the source cannot say which collections it offers."""
