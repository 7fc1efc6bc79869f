"""This source reads the streams of a connector as collections, in the order of every keyed source."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from sequin_pipeline.sources.connectors.feed import ConnectorFeed, Spoken
from sequin_pipeline.sources.connectors.installed import InstalledConnector
from sequin_pipeline.sources.connectors.process import Limits
from sequin_pipeline.sources.connectors.singer import Singer
from sequin_pipeline.sources.keyed.source import KeyedSource
from sequin_pipeline.sources.kind import Environment


class ConnectorSource(KeyedSource):
    """This source starts a connector for its catalog, and once more for each read."""

    def __init__(
        self,
        feed: ConnectorFeed,
        identity: SourceIdentity,
        *,
        relist_hours: int = 24,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(feed, identity, relist_hours=relist_hours, now=now)
        self.feed = feed

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Yields the pages as every keyed source does; the wait for the catalog ends as well once nobody wants them."""
        self.feed.stop = request.stop
        yield from super().pages(request)

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """Returns the fields that the connector's catalog has for the collection's stream."""
        return self.feed.fields(collection_id.partition(":")[2])


def open_connector(
    declaration: SourceDeclaration,
    environment: Environment,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> ConnectorSource:
    """Opens a source that has started nothing yet."""
    connector = declaration.connector
    if connector is None:
        raise ConfigurationError(f"source {declaration.kind!r} needs a 'connector' in the defs.yaml")
    installed = InstalledConnector(connector, environment, limits)
    protocol: Spoken = Airbyte(installed) if declaration.kind == "airbyte" else Singer(installed)
    # A table that one connector filled is no other's: its keys and versions may mean something else.
    return ConnectorSource(
        ConnectorFeed(protocol, connector.reads),
        SourceIdentity(declaration.kind, installed.name),
        relist_hours=declaration.relist_hours,
    )
