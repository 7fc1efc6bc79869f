"""This source reads the collections of a REST API as they are declared."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.reads import Read, RestApi, filled
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.keyed.feed import Reading
from sequin_pipeline.sources.keyed.shape import Shape
from sequin_pipeline.sources.keyed.source import KeyedSource
from sequin_pipeline.sources.rest.client import Environment, RestClientFactory
from sequin_pipeline.sources.rest.lists import ListPage
from sequin_pipeline.sources.rest.reading import DETAILS_A_RUN, Arrivals, CollectionReading, shape_of

DEFAULT_OPTIONS = HttpOptions()

PAGE_SIZES = frozenset({"limit", "per_page", "page_size", "pageSize", "page[size]", "size", "count"})
"""Parameters of these names tell how many objects a page has."""


class RestFeed:
    """This feed delivers the objects of an API; connections are opened when something is read and closed with it."""

    def __init__(
        self,
        api: RestApi,
        environment: Environment,
        *,
        options: HttpOptions = DEFAULT_OPTIONS,
        details_a_run: int = DETAILS_A_RUN,
    ) -> None:
        """Takes `environment`, which holds the declaration's variables; raises ConfigurationError for values that cannot be used."""
        self._api = api
        self._environment = environment
        self._clients = RestClientFactory(api, environment, options)
        self._details_a_run = details_a_run
        self.endpoint = self._clients.endpoint

    def shape(self, name: str) -> Shape:
        """Returns how the objects tell their keys, as declared."""
        return shape_of(self._read(name))

    def read(self, name: str, reading: Reading) -> Arrivals:
        """Yields what is asked for."""
        read = self._read(name)
        with self._clients.open() as client:
            work = CollectionReading(
                client,
                name,
                read,
                read.paginator or self._api.paginator,
                reading,
                environment=self._environment,
                details_a_run=self._details_a_run,
            )
            if reading.window is not None:
                yield from work.window(reading.window)
            elif reading.lists:
                yield from work.listing()
            else:
                yield from work.news()

    def first_pages(self, name: str, *, most: int, records: int) -> Iterator[Callable[[], ListPage | None]]:
        """Yields, for each partition up to `most`, what asks for its first page, cut to so many records where a parameter tells how many.

        That raises SourceError; ConfigurationError comes from here.
        """
        read = self._read(name)
        small = {key: records for key in read.params if key in PAGE_SIZES}
        small_json = None if read.json is None else {**read.json, **{key: records for key in read.json if key in PAGE_SIZES}}
        read = replace(read, params={**read.params, **small}, json=small_json)
        with self._clients.open() as client:
            work = CollectionReading(
                client,
                name,
                read,
                read.paginator or self._api.paginator,
                Reading(datetime.now(UTC)),
                environment=self._environment,
            )
            yield from work.first_pages(most)

    def limits_told(self) -> str:
        """Returns in words what the last answer told of how many requests are left; nothing where it told nothing."""
        return self._clients.limits_told()

    def _read(self, name: str) -> Read:
        if name not in self._api.reads:
            raise ConfigurationError(f"collection {name!r} has no `read`, which says where the API lists its objects: declare it")
        return _with_values(self._api.reads[name], self._environment)


def _with_values(read: Read, environment: Environment) -> Read:
    """Returns the read with what the environment holds in the place of variables in its parameters and its body."""
    return replace(
        read,
        params=filled(read.params, environment),
        json=filled(read.json, environment),
        changes=None if read.changes is None else _with_values(read.changes, environment),
    )


def rest_source(
    api: RestApi,
    environment: Environment,
    *,
    relist_hours: int = 24,
    options: HttpOptions = DEFAULT_OPTIONS,
    details_a_run: int = DETAILS_A_RUN,
) -> KeyedSource:
    """Returns a source for an API, which has sent nothing yet; raises ConfigurationError for what cannot be used."""
    feed = RestFeed(api, environment, options=options, details_a_run=details_a_run)
    return KeyedSource(feed, SourceIdentity("rest", feed.endpoint.base_url), relist_hours=relist_hours, now=options.now)
