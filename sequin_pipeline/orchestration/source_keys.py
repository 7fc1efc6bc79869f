"""This module names the upstream assets: where a collection's lineage starts."""

import re
from urllib.parse import urlsplit

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.reads import RestApi, StreamRead, Variable


def source_key(collection: Collection) -> dg.AssetKey:
    """Returns the key of the API's side of the collection; pages of Dagster show its last part alone.

    For an API by declaration it is the address of the list, as in `api.hubapi.com/crm/v3/objects/contacts`, so that two providers of one
    address have one upstream asset; for a connector its stream, as in `airbyte/github/issues`.
    """
    source = collection.source
    if source.rest is not None:
        return dg.AssetKey(_address(source.rest, collection.name))
    if source.connector is not None:
        read = source.connector.reads.get(collection.name, StreamRead(collection.name))
        return dg.AssetKey([source.kind, collection.provider, _plain(read.stream)])
    return dg.AssetKey(["sequin", collection.provider, f"{collection.name}_source"])


def _address(api: RestApi, name: str) -> list[str]:
    read = api.reads[name]
    # What a variable holds may differ from process to process, and a key may not.
    address = api.base_url.default or api.base_url.name if isinstance(api.base_url, Variable) else api.base_url
    parts = urlsplit(address)
    base = [parts.netloc, *parts.path.split("/")]
    is_shared = [other.path for other in api.reads.values()].count(read.path) > 1
    plain = [_plain(part) for part in (*base, *read.path.split("/"))]
    return [part for part in plain if part] + ([name] if is_shared else [])


def _plain(part: str) -> str:
    """Dagster makes names of steps of it, and takes nothing else in these."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", part).strip("_")
