"""This module asks for objects one by one, where the list shows less of each than the API has: once for each that has changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.reads import JsonPath
from sequin_pipeline.records import json_text
from sequin_pipeline.sources import NO_COST, PageCost
from sequin_pipeline.sources.http.client import Response
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.http.retries import AskAgain
from sequin_pipeline.sources.keyed.shape import Found, ValueReader
from sequin_pipeline.sources.rest import dlt_parts
from sequin_pipeline.sources.rest.client import RestClient
from sequin_pipeline.sources.rest.elements import WRONG_REPEATS, Element
from sequin_pipeline.sources.rest.lists import ListPage
from sequin_pipeline.sources.rest.templates import fill, names_in, path_values

GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


@dataclass(frozen=True)
class Detail:
    """A detail is the path of one object, its key, and the version at which the list showed it."""

    version: int | None
    path: str
    key: Found = ()


class DetailReader:
    """A reader asks for the objects of one partition by the path `template`, whose names are keys of the object or of the partition."""

    def __init__(
        self, client: RestClient, template: str, values: Mapping[str, str], key: Sequence[JsonPath], *, purpose: str
    ) -> None:
        self._client = client
        self._key = ValueReader(key)
        self._key_values = len(key)
        self._template = template
        self._values = values
        self._purpose = purpose
        self._names = sorted(names_in(template) - values.keys())
        self._keys = ValueReader([(name,) for name in self._names])

    def of(self, page: ListPage) -> Iterator[Detail]:
        """Yields a detail for each object of the page; raises SourceFault for one without the values that its path wants."""
        for element, values, version in zip(page.elements, page.values, page.versions, strict=True):
            yield Detail(version, self._path(element), (values or ())[: self._key_values])

    def _path(self, element: Element) -> str:
        found = self._keys.read(element) or ()
        keys = {name: quote(str(value), safe="") for name, value in zip(self._names, found, strict=False) if value is not None}
        lacking = [name for name in self._names if name not in keys]
        if lacking:
            raise SourceFault(
                f"{self._purpose}: an object of the list has no {' and '.join(map(repr, lacking))}, which `detail: {self._template}` "
                "wants: check the names in braces"
            )
        return fill(self._template, {**path_values(self._values), **keys})

    def ask(self, detail: Detail) -> tuple[bytes | None, PageCost]:
        """Returns the object, None where it has gone since, and what asking for it took."""
        request = dlt_parts.make_request("GET", f"{self._client.base_url}/{detail.path.lstrip('/')}", {}, None)
        try:
            answer = self._client.ask(request, purpose=self._purpose, read=lambda response: self._read(response, detail))
        except StatusRefused as refused:
            if refused.status not in GONE:
                raise
            return None, NO_COST
        return answer.value, answer.cost

    def _read(self, response: Response, detail: Detail) -> bytes | None:
        """Returns the body, None where it is another object: of two that were merged an API gives the one that is left for both.

        Raises AskAgain for what is no object with a key.
        """
        body = response.body.strip(json_text.SPACE)
        found = self._key.read(body)
        if not _is_object(body) or found is None or None in found:
            raise AskAgain(
                f"an answer that is no JSON object with a key, beginning with {self._client.excerpt(body)} (does `detail` lead to one?)",
                at_most=WRONG_REPEATS,
            )
        is_same = not detail.key or [*map(str, found)] == [*map(str, detail.key)]
        return body if is_same else None


def _is_object(body: bytes) -> bool:
    try:
        json_text.members(body)
    except ValueError:
        return False
    return True
