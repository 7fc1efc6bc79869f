"""This module finds the array of objects in an answer, each object by its own bytes, and gives paginators the rest of it.

An answer without the array is a fault, and never an empty page: nobody could tell it from a list whose objects are all gone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.reads import JsonPath
from sequin_pipeline.records import json_text
from sequin_pipeline.sources.http.client import Response
from sequin_pipeline.sources.http.retries import AskAgain
from sequin_pipeline.sources.rest.dlt_parts import parse_links

WRONG_REPEATS = 6
"""A request whose answer has no list is repeated this many times: half a minute, for a gateway whose error page has status 200."""

Element = bytes | msgspec.Raw


class ElementReader:
    """A reader finds what stands at `select` in a body."""

    def __init__(self, select: JsonPath, excerpt: Callable[[bytes], str]) -> None:
        """Takes `excerpt`, which shows the beginning of a body without secrets."""
        self._select = select
        self._excerpt = excerpt
        kind: Any = list[msgspec.Raw]
        for name in reversed(select):
            kind = msgspec.defstruct("Body", [("value", kind)], rename={"value": name})
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, body: bytes) -> Sequence[Element]:
        """Returns the elements; raises AskAgain, which ends as SourceFault, for a body without the array."""
        try:
            found = self._decoder.decode(body)
        except json_text.REFUSALS:
            return self._read_unusual(body)
        for _ in self._select:
            found = found.value
        elements: Sequence[Element] = found
        return elements

    def _read_unusual(self, body: bytes) -> Sequence[Element]:
        """Goes by quotes and brackets alone, so that half of a surrogate pair in one object is no fault of the page."""
        value = body.strip(json_text.SPACE)
        try:
            for name in self._select:
                value = json_text.members(value)[name]
            return json_text.elements(value)
        except (KeyError, ValueError) as error:
            where = f"at {'.'.join(self._select)!r}" if self._select else "as its whole"
            raise AskAgain(
                f"an answer that has no array {where}, beginning with {self._excerpt(body)} (do `path` and `select` name the list?)",
                at_most=WRONG_REPEATS,
            ) from error


@dataclass(frozen=True)
class ListAnswer:
    """This value is an answer to a request for a page of a list.

    What a paginator looks at is told by the members that it asks for.
    """

    response: Response = field(repr=False)
    url: str
    elements: Sequence[Element] = field(repr=False)
    select: JsonPath
    tells_elements: bool

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers

    @property
    def links(self) -> Mapping[str, Mapping[str, str]]:
        return parse_links(self.response.headers.get("link"))

    def json(self) -> object:
        """Returns the parsed body without the objects, which no paginator wants but one whose path leads to them."""
        if not self.select and not self.tells_elements:
            return {}
        try:
            return msgspec.json.decode(self.response.body) if self.tells_elements else _without(self.response.body, self.select)
        except json_text.REFUSALS as error:
            # An empty text would end the list in silence.
            raise SourceFault("what leads to the next page cannot be read, as the answer is not strict JSON") from error


def _without(body: bytes, path: JsonPath) -> dict[str, object]:
    members = json_text.members(body)
    rest: dict[str, object] = {name: msgspec.json.decode(text) for name, text in members.items() if name != path[0]}
    rest[path[0]] = _without(members[path[0]], path[1:]) if len(path) > 1 else []
    return rest
