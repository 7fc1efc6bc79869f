"""This module turns `connector` and `read` of a defs.yaml into a Connector, or into a CatalogError with file and line."""

from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.rest_models import ReadModel
from sequin_pipeline.declare.settings import json_path, refuse_literal_secret, with_settings
from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.reads import Connector, JsonPath, StreamRead

CONNECTOR_KINDS = ("airbyte", "singer")

OF_STREAMS = ("stream", "key", "version", "deleted")
"""These keys of `read` mean something to a connector."""


def parse_connector(provider: ProviderModel, node: Node) -> Connector | None:
    """Returns the connector of a file whose `source` is one; None for any other, which can have neither `connector` nor `read.stream`."""
    if provider.source not in CONNECTOR_KINDS:
        _refuse_elsewhere(provider, node)
        return None
    if provider.connector is None:
        raise (node / "source").refused(
            f"source {provider.source!r} needs a 'connector': say what starts it, as in "
            "connector: {command: [/srv/connectors/github/bin/source-github], config: {…}}"
        )
    model, place = provider.connector, node / "connector"
    for index, part in enumerate(model.command):
        if not part.strip():
            raise (place / "command" / index).refused("the command has an empty part: remove it")
    if provider.api is not None:
        raise (node / "api").refused(f"source {provider.source!r} takes no 'api', which says how source 'rest' reads: remove it")
    return Connector(
        command=tuple(model.command),
        config={key: _config(key, value, place / "config" / key) for key, value in model.config.items()},
        options=tuple(model.options),
        reads={
            name: _read(
                name, collection.read if collection is not None else None, provider.source, node / "collections" / name / "read"
            )
            for name, collection in provider.collections.items()
        },
    )


def _refuse_elsewhere(provider: ProviderModel, node: Node) -> None:
    if provider.connector is not None:
        raise (node / "connector").refused(
            f"source {provider.source!r} takes no 'connector', which is what sources 'airbyte' and 'singer' start: remove it"
        )
    for name, collection in provider.collections.items():
        if collection is not None and collection.read is not None and collection.read.stream is not None:
            raise (node / "collections" / name / "read" / "stream").refused(
                f"source {provider.source!r} takes no 'stream', which names what a connector reads {name!r} from: remove it"
            )


def _config(key: str, value: object, node: Node) -> object:
    _refuse_secrets(key, value, node)
    return with_settings(value, f"{key!r} of 'config'", node)


def _refuse_secrets(key: str, value: object, node: Node) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_secrets(str(name), inner, node / str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_secrets(key, inner, node / index)
    else:
        refuse_literal_secret(key, value, "config", node)


def _read(name: str, model: ReadModel | None, source: str, node: Node) -> StreamRead:
    if model is None:
        return StreamRead(name)
    of = f"read of {name!r}"
    fields = type(model).model_fields
    for key in sorted(model.model_fields_set):
        if key not in OF_STREAMS:
            said = fields[key].alias or key
            raise (node / said).refused(
                f"source {source!r} takes no {said!r} below 'read', which is for source 'rest': a connector takes {', '.join(OF_STREAMS)}"
            )
    return StreamRead(
        stream=model.stream or name,
        key=None
        if model.key is None
        else tuple(json_path(one, f"'key' of {of}", node / "key" / i) for i, one in enumerate(model.key)),
        version=_path(model.version, "version", of, node),
        deleted=_path(model.deleted, "deleted", of, node),
    )


def _path(text: str | None, key: str, of: str, node: Node) -> JsonPath | None:
    return None if text is None else json_path(text, f"{key!r} of {of}", node / key)
