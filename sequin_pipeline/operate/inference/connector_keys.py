"""This module writes the keys of a connector, and the options of a class of another package, as a defs.yaml has them; a secret stays
the name of its variable."""

from collections.abc import Mapping

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.reads import StreamRead, Variable


def connector_keys(source: SourceDeclaration) -> dict[str, object]:
    """Returns the provider's key `connector`; nothing for a source that is none."""
    connector = source.connector
    if connector is None:
        return {}
    keys: dict[str, object] = {"command": list(connector.command)}
    if connector.config:
        keys["config"] = _plain(connector.config)
    if connector.options:
        keys["options"] = list(connector.options)
    return {"connector": keys}


def option_keys(source: SourceDeclaration) -> dict[str, object]:
    """Returns the provider's key `options`; nothing for a source that takes none."""
    return {"options": _plain(source.options)} if source.options else {}


def stream_keys(source: SourceDeclaration, name: str) -> dict[str, object]:
    """Returns the collection's key `read`, where the file says more than the collection's name does."""
    read = source.connector.reads.get(name) if source.connector is not None else None
    if read is None or read == StreamRead(name):
        return {}
    keys: dict[str, object] = {} if read.stream == name else {"stream": read.stream}
    if read.key is not None:
        keys["key"] = [".".join(path) for path in read.key]
    if read.version is not None:
        keys["version"] = ".".join(read.version)
    if read.deleted is not None:
        keys["deleted"] = ".".join(read.deleted)
    return {"read": keys}


def _plain(value: object) -> object:
    if isinstance(value, Variable):
        return {"env": value.name}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
