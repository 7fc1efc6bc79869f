"""This module finds out what the key of a Stripe account may read, with the smallest requests, before a run does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from sequin_pipeline.catalog import SourceAccount
from sequin_pipeline.errors import SourceError
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.stripe.api import StripeApi
from sequin_pipeline.sources.stripe.objects import Listable


@dataclass(frozen=True)
class KeyAccess:
    """This value says what one key may read.

    `account_id` is None where the key may not ask for it, `refused` says by name why a class cannot be read, `api_versions` are the
    account's own as far as events tell, and `failure` is what kept the rest from being asked.
    """

    account: SourceAccount
    account_id: str | None
    readable: tuple[str, ...]
    refused: Mapping[str, str]
    api_versions: frozenset[str]
    failure: str | None = None


def look_up_key_access(api: StripeApi, listables: Iterable[Listable]) -> KeyAccess:
    """Asks for one object of each class, and for one event where runs follow events; raises nothing that a request can meet."""
    readable, refused, versions = list[str](), dict[str, str](), set[str]()
    account_id, failure = None, None
    try:
        account_id, _ = api.account_id()
        for listable in listables:
            try:
                versions |= _look(api, listable)
            except StatusRefused as refusal:
                if refusal.status == HTTPStatus.UNAUTHORIZED:
                    raise
                refused[listable.name] = str(refusal)
            else:
                readable.append(listable.name)
    except SourceError as error:
        failure = str(error)
    return KeyAccess(api.account, account_id, tuple(readable), refused, frozenset(versions - {api.api_version}), failure)


def _look(api: StripeApi, listable: Listable) -> set[str]:
    """Returns the API versions that the newest event bears; raises StatusRefused where a run would be refused too."""
    api.list_page(listable, limit=1)
    if not listable.events:
        return set()
    return {event.api_version for event in api.event_page(listable, limit=1).events if event.api_version}
