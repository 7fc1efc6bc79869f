"""This check asks each connector whether it reaches what it reads, and whether it has the streams that are declared."""

import threading
from collections.abc import Iterator

from sequin_pipeline.catalog import Collection, SourceDeclaration
from sequin_pipeline.errors import ConfigurationError, SourceError
from sequin_pipeline.operate.doctor.finding import Finding, Patient, lacking
from sequin_pipeline.operate.doctor.source import some
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from sequin_pipeline.sources.connectors.source import ConnectorSource
from sequin_pipeline.sources.registry import open_source

FIX = "the message says what to do"


def connectors(patient: Patient) -> Iterator[Finding]:
    """Yields what each connector says of its configuration, then a finding for each declared collection."""
    declarations = {one.provider: one.source for one in patient.collections.values() if one.source.connector is not None}
    for provider, declaration in declarations.items():
        if (missing := lacking("connectors", provider, declaration, patient)) is not None:
            yield missing
            continue
        collections = [one for one in patient.collections.values() if one.provider == provider]
        try:
            yield from _of_provider(provider, declaration, collections, patient)
        except (ConfigurationError, SourceError) as error:
            yield Finding("connectors", "problem", f"{provider}: {error}", FIX)


def _of_provider(
    provider: str, declaration: SourceDeclaration, collections: list[Collection], patient: Patient
) -> Iterator[Finding]:
    source = open_source(declaration, patient.environment)
    assert isinstance(source, ConnectorSource)  # noqa: S101 - what KINDS opens for a declaration of a connector
    protocol, stop = source.feed.protocol, threading.Event()
    name = protocol.installed.name
    if isinstance(protocol, Airbyte):
        refusal = protocol.check(stop)
        if refusal is not None:
            said = f"{provider}: the connector {name!r} does not reach what it reads: {refusal}"
            yield Finding("connectors", "problem", said, "fix `connector.config` in the defs.yaml, or the account's rights")
            return
        yield Finding("connectors", "ok", f"{provider}: the connector {name!r} reaches what it reads")
        yield from _plain_secrets(provider, protocol, stop)
    streams = source.feed.catalog(stop)
    yield Finding("connectors", "ok", f"{provider}: the connector {name!r} has {len(streams)} streams: {some(sorted(streams))}")
    for collection in collections:
        yield _of_collection(collection, source)


def _plain_secrets(provider: str, protocol: Airbyte, stop: threading.Event) -> Iterator[Finding]:
    plain = sorted(protocol.secret_keys(stop) & protocol.installed.plain_keys)
    if plain:
        said = f"{provider}: the connector calls {some(plain)} a secret, and it stands in the defs.yaml"
        yield Finding("connectors", "warning", said, "name the variable that holds it, as in {env: NAME}")


def _of_collection(collection: Collection, source: ConnectorSource) -> Finding:
    try:
        stream = source.feed.stream(collection.name, threading.Event())
    except SourceError as error:
        return Finding("connectors", "problem", f"{collection.label}: {error}", FIX)
    key = " and ".join(".".join(path) for path in stream.key or ())
    said = f"{collection.label} is read from stream {stream.name!r}, whose records are told apart by {key}"
    if stream.version is None:
        return Finding("connectors", "ok", f"{said}; it has no version, so that each run reads all of it")
    return Finding("connectors", "ok", f"{said}, and their versions by {'.'.join(stream.version)}")
