"""The population is what there is in the sandbox, and what happens next: the ChangeSource behind its stream.

How objects look is in objects/, whose they are in tenants.py. How many there are, when they were created and changed, and which of
them are deleted is decided here. Nothing knows the clock.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sequin_pipeline.sandbox.dice import Dice
from sequin_pipeline.sandbox.objects import JsonObject, Kind, Lifetime
from sequin_pipeline.sandbox.objects.account import Account, json_of, object_of
from sequin_pipeline.sandbox.records import Change, FieldInfo, SyncInfo
from sequin_pipeline.sandbox.tenants import PROVIDERS, syncs_of

FIRST_CHANGE_AT = datetime(2024, 1, 5, tzinfo=UTC)
LAST_CHANGE_AT = datetime(2026, 10, 31, tzinfo=UTC)

ACCOUNT_SHARES = (3, 2, 1)
"""A kind's objects are divided among the three syncs of its provider in these shares."""

INITIAL_DELETED_SHARE = 0.05
BARE_TOMBSTONE_SHARE = 0.4
"""This share of the deleted objects comes without their last state."""

UPDATE_SHARE, CREATE_SHARE = 0.72, 0.16
"""These shares of what happens next are updates and creations.

The rest are deletions, which are fewer than creations, so that no kind dies out.
"""

FEWEST_OBJECTS = 5
"""A kind that has no more objects than this in its sync loses none: new objects must have something to refer to."""

JSON_TYPES = {"bool": "boolean", "dict": "object", "list": "array", "str": "string"}
"""These are the words of JSON schema; everything else is a number."""


class Population:
    """The population has about 12,000 objects in 18 collections and 12 syncs, and an endless sequence of changes to them."""

    def __init__(self, seed: int) -> None:
        self._providers = {provider.name: provider for provider in PROVIDERS}
        self._kinds = {f"{provider.name}:{kind.name}": kind for provider in PROVIDERS for kind in provider.kinds}
        self._accounts = {sync.id: Account(sync) for provider in PROVIDERS for sync in syncs_of(provider)}
        self._dice = Dice(seed, "next changes")
        initial = self._make_initial(Dice(seed, "initial"))
        self._initial = tuple(sorted(initial, key=lambda change: change.changed_at))

    def initial(self) -> Iterator[Change]:
        """Yields what is there before the sandbox starts, one change per object, ordered by `changed_at`, at fixed dates."""
        return iter(self._initial)

    def next_change(self, at: datetime) -> Change:
        """Makes the next change: an update, a deletion with or without its object, or a creation.

        Larger collections change more often.
        """
        dice = self._dice
        place = dice.pick(self._initial)
        account, kind = self._accounts[place.sync.id], self._kinds[place.collection_id]
        luck = dice.below(1_000) / 1_000
        if luck >= UPDATE_SHARE + CREATE_SHARE and account.count(kind.name) > FEWEST_OBJECTS:
            return self._delete(account, kind, at)
        if luck >= UPDATE_SHARE:
            return self._create(account, kind, at)
        return self._update(account, kind, at)

    def syncs(self) -> tuple[SyncInfo, ...]:
        """Returns every sync that a change may name."""
        return tuple(account.sync for account in self._accounts.values())

    def fields(self, collection_id: str) -> tuple[FieldInfo, ...]:
        """Returns the keys that objects of the collection have at present; empty for a collection that it does not know."""
        if collection_id not in self._kinds:
            return ()
        provider_name, _, kind_name = collection_id.partition(":")
        types: dict[str, str] = {}
        for account in self._accounts.values():
            if account.sync.provider == provider_name:
                for made in account.objects(kind_name):
                    types |= {key: _json_type(value) for key, value in made.items() if value is not None or key not in types}
        id_key = self._providers[provider_name].id_key
        return tuple(
            FieldInfo(id=f"{collection_id}:{key}", name=key, accessor=key, type=type_name, primary_key=key == id_key)
            for key, type_name in types.items()
        )

    def _make_initial(self, dice: Dice) -> Iterator[Change]:
        for provider in PROVIDERS:
            accounts = [account for account in self._accounts.values() if account.sync.provider == provider.name]
            for kind in provider.kinds:
                for account, share in zip(accounts, ACCOUNT_SHARES, strict=True):
                    for _ in range(kind.count * share // sum(ACCOUNT_SHARES)):
                        yield self._make_one(dice, account, kind)

    def _make_one(self, dice: Dice, account: Account, kind: Kind) -> Change:
        changed_at = dice.moment(FIRST_CHANGE_AT, LAST_CHANGE_AT)
        updated_at = changed_at - timedelta(milliseconds=dice.between(200, 90_000))
        age_days = dice.pick((0, 1, 7, 40, 400))
        created_at = updated_at - timedelta(days=age_days, minutes=dice.below(1_440) if age_days else 0)
        made = kind.make(dice, account, Lifetime(created_at, updated_at))
        change = self._change(account, kind, made, life=Lifetime(created_at, updated_at), changed_at=changed_at)
        if not dice.chance(INITIAL_DELETED_SHARE):
            account.put(kind.name, change)
            return change
        if dice.chance(BARE_TOMBSTONE_SHARE):
            return replace(change, deleted=True, data=None)
        return replace(change, deleted=True, data=json_of(kind.bury(made, updated_at)))

    def _create(self, account: Account, kind: Kind, at: datetime) -> Change:
        life = Lifetime(at, at)
        change = self._change(account, kind, kind.make(self._dice, account, life), life=life, changed_at=at)
        account.put(kind.name, change)
        return change

    def _update(self, account: Account, kind: Kind, at: datetime) -> Change:
        before = account.pick_change(kind.name, self._dice)
        revised = kind.revise(self._dice, object_of(before), at)
        change = self._after(before, json_of(revised), at)
        account.put(kind.name, change)
        return change

    def _delete(self, account: Account, kind: Kind, at: datetime) -> Change:
        before = account.pick_change(kind.name, self._dice)
        account.remove(kind.name, before.upstream_id)
        is_bare = self._dice.chance(BARE_TOMBSTONE_SHARE)
        data = None if is_bare else json_of(kind.bury(object_of(before), at))
        return replace(self._after(before, data, at), deleted=True)

    def _after(self, before: Change, data: bytes | None, at: datetime) -> Change:
        updated_at = at if before.upstream_updated_at else None
        return replace(before, data=data, changed_at=at, upstream_updated_at=updated_at)

    def _change(self, account: Account, kind: Kind, made: JsonObject, *, life: Lifetime, changed_at: datetime) -> Change:
        provider = self._providers[account.sync.provider]
        return Change(
            collection_id=f"{provider.name}:{kind.name}",
            sync=account.sync,
            upstream_id=str(made[provider.id_key]),
            deleted=False,
            data=json_of(made),
            changed_at=changed_at,
            upstream_created_at=life.created_at,
            upstream_updated_at=life.updated_at if provider.shows_updates else None,
        )


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    return JSON_TYPES.get(type(value).__name__, "number")
