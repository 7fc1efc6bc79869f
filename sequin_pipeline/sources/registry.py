"""This module lists the kinds of sources that a defs.yaml can name: what each needs from the environment, and how it is opened.

A new kind is a module beside this one, an entry in KINDS, and its name in `catalog.SourceKindName`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sequin_pipeline.catalog import Queue, SourceDeclaration, SourceKindName
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources import Source
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.sequin import SequinSource
from sequin_pipeline.sources.sequin_consumer import SequinConsumerSource
from sequin_pipeline.sources.sequin_stream import SequinStreamSource
from sequin_pipeline.sources.stripe.objects import LISTABLE
from sequin_pipeline.sources.stripe.source import BASE_URL, StripeSource

Environment = Mapping[str, str]


@dataclass(frozen=True)
class SourceKind:
    """This value describes one kind of source.

    `variables` names what the environment must hold for a declaration, `open` builds the source once it does. `collections` are the
    names that can be declared (None: any). `reads_records_api`: the sandbox can stand in for it, and does where no address is set.
    `reads_accounts`: the declaration's accounts say what is read. `can_reread` and `observes_time` are those of its sources.
    """

    variables: Callable[[SourceDeclaration], tuple[str, ...]]
    open: Callable[[SourceDeclaration, Environment], Source]
    can_reread: bool
    observes_time: bool
    collections: frozenset[str] | None = None
    reads_records_api: bool = False
    reads_accounts: bool = False


def _open_sequin(declaration: SourceDeclaration, environment: Environment) -> Source:
    return SequinSource(environment["SEQUIN_API_URL"], _token(declaration, environment))


def _open_stripe(declaration: SourceDeclaration, environment: Environment) -> Source:
    return StripeSource(
        {account.name: environment[account.key_variable].strip() for account in declaration.accounts},
        declaration.accounts,
        base_url=environment.get("STRIPE_API_URL", "").strip() or BASE_URL,
        relist_hours=declaration.relist_hours,
    )


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


KINDS: Mapping[SourceKindName, SourceKind] = {
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
        open=_open_stripe,
        can_reread=StripeSource.can_reread,
        observes_time=StripeSource.observes_time,
        collections=frozenset(LISTABLE),
        reads_accounts=True,
    ),
}


def missing_variables(declaration: SourceDeclaration, environment: Environment) -> tuple[str, ...]:
    """Returns the variables of this source that the environment lacks or holds empty."""
    needed = dict.fromkeys(KINDS[declaration.kind].variables(declaration))
    return tuple(name for name in needed if not environment.get(name, "").strip())


def open_source(declaration: SourceDeclaration, environment: Environment) -> Source:
    """Opens a source that has sent nothing yet; raises ConfigurationError for a variable that is missing or cannot be used."""
    missing = missing_variables(declaration, environment)
    if missing:
        raise _lacking(declaration, missing)
    return KINDS[declaration.kind].open(declaration, environment)


def _lacking(declaration: SourceDeclaration, missing: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(
        f"source {declaration.kind!r} needs {' and '.join(missing)}, which the environment does not have: "
        "set it, or name another source in the defs.yaml"
    )
