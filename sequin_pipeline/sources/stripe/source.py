"""This source reads Stripe directly, with an API key for each account.

The order in which an account is read is in account.py, lists are in listing.py, events in events.py, single requests in api.py.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial

from sequin_pipeline.catalog import SourceAccount
from sequin_pipeline.errors import ConfigurationError, SourceError, SourceRefused
from sequin_pipeline.sources import NO_COST, FieldDescription, Page, ReadRequest, SourceIdentity, TimeWindow
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.http.pace import Pace
from sequin_pipeline.sources.stripe.account import AccountReader, is_listing_due
from sequin_pipeline.sources.stripe.api import StripeApi
from sequin_pipeline.sources.stripe.cursor import SyncState, read_cursor
from sequin_pipeline.sources.stripe.key_access import KeyAccess, look_up_key_access
from sequin_pipeline.sources.stripe.objects import LISTABLE, Listable
from sequin_pipeline.sources.stripe.records import listing_version, write_page, write_record

LOGGER = logging.getLogger("sequin_pipeline.sources")

BASE_URL = "https://api.stripe.com"

LIVE_REQUESTS_PER_SECOND = 100.0
TEST_REQUESTS_PER_SECOND = 25.0
"""These are Stripe's own limits, which all users of an account share: each refusal halves our speed."""

DEFAULT_OPTIONS = HttpOptions()


class StripeSource:
    """This source reads one collection at a time of each account in `keys`; times are those of Stripe's clock.

    It opens its connections when something is read and closes them with it. Raises ConfigurationError for what is not a secret key,
    and for keys of test and live mode together.
    """

    can_reread = True
    observes_time = True

    def __init__(
        self,
        keys: Mapping[str, str],
        accounts: tuple[SourceAccount, ...],
        *,
        base_url: str = BASE_URL,
        relist_hours: int = 24,
        objects: Mapping[str, Listable] = LISTABLE,
        requests_per_second: float | None = None,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> None:
        modes = {_mode(keys[account.name], account) for account in accounts}
        if len(modes) > 1:
            raise ConfigurationError(
                "some of the keys for Stripe are of test mode and some of live mode, whose objects do not belong in one table: "
                "declare a provider for each"
            )
        (mode,) = modes
        speed = requests_per_second or (LIVE_REQUESTS_PER_SECOND if mode == "live" else TEST_REQUESTS_PER_SECOND)
        self._apis = {
            account.name: partial(
                StripeApi, base_url, keys[account.name], account, options=options, pace=Pace(speed, sleep=options.sleep)
            )
            for account in accounts
        }
        self._relist_seconds = relist_hours * 3600
        self._objects = objects
        self._options = options
        self.identity = SourceIdentity("stripe", next(iter(self._apis.values()))().base_url, mode)

    def __repr__(self) -> str:
        return f"StripeSource({self.identity.base_url!r}, {', '.join(self._apis)})"

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Yields all pages of one account, then of the next; an account that cannot be read does not keep the others from it.

        With a window it yields the objects that were created in it, as they are now, and `after` means nothing; without one, what
        `after` does not know. Raises SourceError, for a window before the present also where the class has no time of creation.
        """
        (collection_id,) = request.collections
        listable = self._listable(collection_id)
        if request.window is not None:
            self._check_window(listable, request.window)
        states = {} if request.window else dict(read_cursor(request.after))
        failure: SourceError | None = None
        for name, open_api in self._apis.items():
            if request.sync_ids is not None and name not in request.sync_ids:
                continue
            api = open_api()
            reader = AccountReader(
                api, listable, collection_id, states, options=self._options, relist_seconds=self._relist_seconds
            )
            try:
                yield from reader.window(request.window) if request.window else reader.live()
            except SourceError as error:
                if len(self._apis) == 1:
                    raise
                LOGGER.warning("sync %r could not be read to its end: %s", name, error)
                failure = failure or error
            finally:
                api.close()
        if failure is not None:
            raise failure

    def lists_next(self, request: ReadRequest) -> bool:
        """Says whether one of the accounts is listed; that events are missing is seen only once they are asked for."""
        (collection_id,) = request.collections
        listable, states = self._listable(collection_id), read_cursor(request.after)
        names = [name for name in self._apis if request.sync_ids is None or name in request.sync_ids]
        now = int(self._options.now().timestamp())
        return any(
            is_listing_due(listable, states.get(name, SyncState()), now=now, relist_seconds=self._relist_seconds)
            for name in names
        )

    def _check_window(self, listable: Listable, window: TimeWindow) -> None:
        if listable.time is None and window.end <= self._options.now():
            raise SourceRefused(
                f"stripe:{listable.name} has no time of creation, so that nobody can say which objects belong in a window that ended at "
                f"{window.end:%Y-%m-%d %H:%M} UTC: sync it without windows, or ask for a window that reaches to the present, which holds "
                "all of them"
            )

    def look_up(self, collection_id: str, upstream_id: str, *, sync_id: str | None = None) -> Page | None:
        """Returns the object as each account has it now, at the version of a listing that begins now; None where its class has no
        address for a single object."""
        listable, started = self._listable(collection_id), int(self._options.now().timestamp())
        if not listable.retrieves:
            return None
        records, cost = [], NO_COST
        for name, open_api in self._apis.items():
            if sync_id not in (None, name):
                continue
            with closing(open_api()) as api:
                found, spent = api.retrieve(listable, upstream_id)
                cost += spent
                if found is not None:
                    entered = started if found.created is None else found.created
                    version = listing_version(started)
                    records.append(write_record(api.account, collection_id, found, version=version, entered=entered))
        return Page(write_page(records), None, self._options.now(), cost)

    def key_access(self, collection_ids: Iterable[str], options: HttpOptions) -> Iterator[KeyAccess]:
        """Yields what each account's key may read of these collections, account by account; what it may not read is not an error."""
        listables = [self._listable(collection_id) for collection_id in collection_ids]
        for open_api in self._apis.values():
            with closing(open_api(options=options)) as api:
                yield look_up_key_access(api, listables)

    def committed(self, cursor: str) -> None:
        """Does nothing: what was read can be read again."""

    def head(self, collection_id: str) -> None:
        """Returns None: there is no stream whose end could be named."""

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """Returns nothing: Stripe does not describe its objects over the API."""
        return ()

    def collection_ids(self) -> None:
        """Returns None: what can be listed is known without asking, and a file that declares anything else is refused."""

    def _listable(self, collection_id: str) -> Listable:
        name = collection_id.partition(":")[2]
        if name not in self._objects:
            raise ConfigurationError(
                f"collection {collection_id!r} is not one that Stripe lists: see docs/sources.md for their names"
            )
        return self._objects[name]


def _mode(key: str, account: SourceAccount) -> str:
    """Returns `live` or `test` as the key says, or an empty text where it does not."""
    if not key.startswith(("sk_", "rk_")):
        raise ConfigurationError(
            f"{account.key_variable} does not hold a secret or restricted key of Stripe, which begins with sk_ or rk_: "
            "copy one from the dashboard, under Developers, API keys"
        )
    parts = key.split("_")
    return parts[1] if parts[1] in ("live", "test") else ""
