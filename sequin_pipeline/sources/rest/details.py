"""This module asks for objects one by one, where the list shows less of each than the API has: once for each that has changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.records import json_text
from sequin_pipeline.sources import NO_COST, PageCost
from sequin_pipeline.sources.http.client import Response
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.http.retries import AskAgain
from sequin_pipeline.sources.keyed.shape import ValueReader
from sequin_pipeline.sources.rest import dlt_parts
from sequin_pipeline.sources.rest.client import RestClient
from sequin_pipeline.sources.rest.elements import WRONG_REPEATS, Element
from sequin_pipeline.sources.rest.lists import ListPage
from sequin_pipeline.sources.rest.templates import fill, names_in

GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


@dataclass(frozen=True)
class Detail:
    """A detail is the path of one object, and the version at which the list showed it."""

    version: int | None
    path: str


class DetailReader:
    """A reader asks for the objects of one partition by the path `template`, whose names are keys of the object or of the partition."""

    def __init__(self, client: RestClient, template: str, values: Mapping[str, str], *, purpose: str) -> None:
        self._client = client
        self._template = template
        self._values = values
        self._purpose = purpose
        self._names = sorted(names_in(template) - values.keys())
        self._keys = ValueReader([(name,) for name in self._names])

    def of(self, page: ListPage) -> Iterator[Detail]:
        """Yields a detail for each object of the page; raises SourceFault for one without the values that its path wants."""
        for element, version in zip(page.elements, page.versions, strict=True):
            yield Detail(version, self._path(element))

    def _path(self, element: Element) -> str:
        found = self._keys.read(element) or ()
        keys = {name: quote(str(value), safe="") for name, value in zip(self._names, found, strict=False) if value is not None}
        lacking = [name for name in self._names if name not in keys]
        if lacking:
            raise SourceFault(
                f"{self._purpose}: an object of the list has no {' and '.join(map(repr, lacking))}, which `detail: {self._template}` "
                "wants: check the names in braces"
            )
        return fill(self._template, {**self._values, **keys})

    def ask(self, detail: Detail) -> tuple[bytes | None, PageCost]:
        """Returns the object, None where it has gone since, and what asking for it took."""
        request = dlt_parts.make_request("GET", f"{self._client.base_url}/{detail.path.lstrip('/')}", {}, None)
        try:
            answer = self._client.ask(request, purpose=self._purpose, read=_read_object)
        except StatusRefused as refused:
            if refused.status not in GONE:
                raise
            return None, NO_COST
        return answer.value, answer.cost


def _read_object(response: Response) -> bytes:
    body = response.body.strip(json_text.SPACE)
    try:
        json_text.members(body)
    except ValueError as error:
        raise AskAgain(f"an answer of {len(body):,} bytes that is no JSON object", at_most=WRONG_REPEATS) from error
    return body
