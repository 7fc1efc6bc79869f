"""This module finds the kind of source that a defs.yaml names: what it needs from the environment, and how it is opened.

A kind of the product is a module beside this one, an entry in KINDS, and its name in `catalog.SourceKindName`. Those of other packages
are found by external.py.
"""

from collections.abc import Mapping

from sequin_pipeline.catalog import Queue, SourceDeclaration
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.reads import RestApi, variables_in
from sequin_pipeline.sources import Source
from sequin_pipeline.sources.connectors.source import open_connector
from sequin_pipeline.sources.external import find_external
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.keyed.source import KeyedSource
from sequin_pipeline.sources.kind import Environment, SourceKind, missing_in
from sequin_pipeline.sources.rest.client import optional_variables_of, variables_of
from sequin_pipeline.sources.rest.source import rest_source
from sequin_pipeline.sources.sequin import SequinSource
from sequin_pipeline.sources.sequin_consumer import SequinConsumerSource
from sequin_pipeline.sources.sequin_stream import SequinStreamSource
from sequin_pipeline.sources.stripe.objects import LISTABLE
from sequin_pipeline.sources.stripe.source import BASE_URL, StripeSource


def _open_sequin(declaration: SourceDeclaration, environment: Environment) -> Source:
    return SequinSource(environment["SEQUIN_API_URL"], _token(declaration, environment))


def _open_stripe(declaration: SourceDeclaration, environment: Environment) -> Source:
    return StripeSource(
        {account.name: environment[account.key_variable].strip() for account in declaration.accounts},
        declaration.accounts,
        base_url=environment.get("STRIPE_API_URL", "").strip() or BASE_URL,
        relist_hours=declaration.relist_hours,
    )


def _open_rest(declaration: SourceDeclaration, environment: Environment) -> Source:
    return rest_source(_api_of(declaration), environment, relist_hours=declaration.relist_hours)


def _api_of(declaration: SourceDeclaration) -> RestApi:
    assert declaration.rest is not None  # noqa: S101 - parse.py refuses the source without an API
    return declaration.rest


def _open_consumer(declaration: SourceDeclaration, environment: Environment) -> Source:
    return SequinConsumerSource(
        environment["SEQUIN_API_URL"], _token(declaration, environment), consumer=_queue_of(declaration).consumer
    )


def _open_stream(declaration: SourceDeclaration, environment: Environment) -> Source:
    return SequinStreamSource(
        environment["SEQUIN_STREAM_URL"].strip(),
        environment["SEQUIN_STREAM_TOKEN"].strip(),
        consumer=_queue_of(declaration).consumer,
    )


def _token(declaration: SourceDeclaration, environment: Environment) -> str | None:
    """Returns the token, or None for a sandbox, which asks for none and is on this machine."""
    token = environment.get("SEQUIN_API_TOKEN", "").strip() or None
    if token is None and not Endpoint(environment["SEQUIN_API_URL"]).is_loopback:
        raise _lacking(declaration, ("SEQUIN_API_TOKEN",))
    return token


def _queue_of(declaration: SourceDeclaration) -> Queue:
    assert declaration.queue is not None  # noqa: S101 - parse.py refuses a queue without one
    return declaration.queue


def _of_connector(declaration: SourceDeclaration) -> tuple[str, ...]:
    return () if declaration.connector is None else variables_in(declaration.connector.config)


_CONNECTOR = SourceKind(
    variables=_of_connector,
    open=open_connector,
    can_reread=True,
    observes_time=True,
    lists_again=True,
    lists_from_a_start=True,
    is_cheap_to_ask=False,
)

KINDS: Mapping[str, SourceKind] = {
    "sequin": SourceKind(
        variables=lambda declaration: ("SEQUIN_API_URL",),
        open=_open_sequin,
        can_reread=SequinSource.can_reread,
        observes_time=SequinSource.observes_time,
        reads_records_api=True,
    ),
    "sequin_consumer": SourceKind(
        variables=lambda declaration: ("SEQUIN_API_URL",),
        open=_open_consumer,
        can_reread=SequinConsumerSource.can_reread,
        observes_time=SequinConsumerSource.observes_time,
        reads_records_api=True,
    ),
    "sequin_stream": SourceKind(
        variables=lambda declaration: ("SEQUIN_STREAM_URL", "SEQUIN_STREAM_TOKEN"),
        open=_open_stream,
        can_reread=SequinStreamSource.can_reread,
        observes_time=SequinStreamSource.observes_time,
    ),
    "stripe": SourceKind(
        variables=lambda declaration: tuple(account.key_variable for account in declaration.accounts),
        optional=lambda declaration: ("STRIPE_API_URL",),
        open=_open_stripe,
        can_reread=StripeSource.can_reread,
        observes_time=StripeSource.observes_time,
        collections=frozenset(LISTABLE),
        reads_accounts=True,
        lists_again=True,
    ),
    "rest": SourceKind(
        variables=lambda declaration: variables_of(_api_of(declaration)),
        optional=lambda declaration: optional_variables_of(_api_of(declaration)),
        open=_open_rest,
        can_reread=KeyedSource.can_reread,
        observes_time=KeyedSource.observes_time,
        lists_again=True,
    ),
    "airbyte": _CONNECTOR,
    "singer": _CONNECTOR,
}


def source_kind(name: str) -> SourceKind:
    """Returns the kind of that name: one of KINDS, of an entry point, or of a class `package.module:Class`.

    Raises ConfigurationError, in words, for a name of which there is no source, and for a class that is none.
    """
    return KINDS[name] if name in KINDS else find_external(name, tuple(KINDS))


def missing_variables(declaration: SourceDeclaration, environment: Environment) -> tuple[str, ...]:
    """Returns the variables of this source that the environment lacks or holds empty."""
    return missing_in(environment, source_kind(declaration.kind).variables(declaration))


def open_source(declaration: SourceDeclaration, environment: Environment) -> Source:
    """Opens a source that has sent nothing yet; raises ConfigurationError for a variable that is missing or cannot be used."""
    missing = missing_variables(declaration, environment)
    if missing:
        raise _lacking(declaration, missing)
    return source_kind(declaration.kind).open(declaration, environment)


def _lacking(declaration: SourceDeclaration, missing: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(
        f"source {declaration.kind!r} needs {' and '.join(missing)}, which the environment does not have: "
        "set it, or name another source in the defs.yaml"
    )
