"""This module writes the keys of an API by declaration back as the file has them, and finds out how an undeclared collection is read."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sequin_pipeline.catalog import Collection, SourceDeclaration
from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.parse import collections_of
from sequin_pipeline.declare.preset_files import presets
from sequin_pipeline.declare.yaml_models import ProviderModel


def api_keys(source: SourceDeclaration) -> dict[str, object]:
    """Returns the provider's keys `api` and `relist_hours`, as far as the file says any; nothing for a source without an API."""
    if source.rest is None:
        return {}
    said = source.rest.said.get("api", {})
    hours = source.relist_hours
    return {
        **({"api": dict(said)} if said else {}),
        **({} if hours == SourceDeclaration().relist_hours else {"relist_hours": hours}),
    }


def read_keys(source: SourceDeclaration, name: str) -> dict[str, object]:
    """Returns the collection's key `read`, where the file says more than the preset."""
    said = {} if source.rest is None else source.rest.said.get("read", {})
    return {"read": said[name]} if name in said else {}


def collection_of_source(provider: str, name: str, source: SourceDeclaration) -> Collection:
    """Returns a collection that no file declares, as one of this source; raises CatalogError where nothing says how it is read."""
    return _declared({"provider": provider, "source": source.kind, **api_keys(source), "collections": {name: None}})


def collection_of_preset(provider: str, name: str) -> Collection | None:
    """Returns a collection as the preset of the provider's name reads it; None where no preset does."""
    if provider not in presets() or name not in presets()[provider].collections:
        return None
    return _declared({"provider": provider, "source": "rest", "collections": {name: None}})


def _declared(attributes: Mapping[str, object]) -> Collection:
    (collection,) = collections_of(ProviderModel.model_validate(attributes), Node(lambda path: None), now=datetime.now(UTC))
    return collection
