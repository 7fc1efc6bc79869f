"""This module asks an API for the names of an object's fields, for one that gives no field without being told its name."""

from collections.abc import Mapping

from sequin_pipeline.errors import ConfigurationError, SourceFault
from sequin_pipeline.reads import FieldList
from sequin_pipeline.sources.keyed.shape import ValueReader
from sequin_pipeline.sources.rest import dlt_parts
from sequin_pipeline.sources.rest.client import RestClient
from sequin_pipeline.sources.rest.elements import ElementReader
from sequin_pipeline.sources.rest.templates import fill_path


class FieldNames:
    """These are the names of a collection's fields, asked for once in a reading for each address."""

    def __init__(self, client: RestClient, fields: FieldList | None, name: str) -> None:
        """Takes the collection's `name`, for messages."""
        self._client, self._declared, self._name = client, fields, name
        self._known: dict[str, str] = {}

    def of(self, values: Mapping[str, str]) -> str:
        """Returns the names with commas between, for the partition of these values; raises SourceFault where there are none."""
        fields = self._declared
        if fields is None:
            raise ConfigurationError(f"{{fields}} stands for nothing in the read of {self._name!r}: declare `fields`")
        path = fill_path(fields.path, values)
        if path not in self._known:
            self._known[path] = self._ask(fields, path)
        return self._known[path]

    def _ask(self, fields: FieldList, path: str) -> str:
        purpose = f"reading {self._name} (GET {fields.path.partition('?')[0]})"
        request = dlt_parts.make_request("GET", f"{self._client.base_url}/{path.lstrip('/')}", {}, None)
        elements = ElementReader(fields.select, self._client.excerpt)
        answer = self._client.ask(request, purpose=purpose, read=lambda got: elements.read(got.body))
        names = ValueReader([fields.name])
        found = [values[0] for element in answer.value if (values := names.read(element)) is not None]
        told = ",".join(name for name in found if isinstance(name, str) and name)
        if not told:
            raise SourceFault(f"{purpose}: no field has a name at {'.'.join(fields.name)!r}")
        return told
