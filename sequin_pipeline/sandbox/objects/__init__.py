"""This room makes up the sandbox's objects: one module per provider says how they look, this one what such a module offers.

Everything in these objects is made up. Their form is that of the providers' public APIs, cut to the keys that people read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sequin_pipeline.sandbox.dice import Dice
from sequin_pipeline.sandbox.objects.account import Account

JsonObject = Mapping[str, Any]
"""This is a JSON object as the provider would send it; Any, because its form is up to the provider."""


@dataclass(frozen=True)
class Lifetime:
    """This value says when an object was created and last changed at its provider; aware, UTC, to the millisecond."""

    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Kind:
    """A kind is the objects of one collection, by its name without the provider.

    `count` is how many there are at first, over all syncs. `make` may refer to objects of the kinds that stand before this one in
    its provider. `revise` and `bury` return the object as it is after a change, and as the provider shows it when it is deleted.
    """

    name: str
    count: int
    make: Callable[[Dice, Account, Lifetime], JsonObject]
    revise: Callable[[Dice, JsonObject, datetime], JsonObject]
    bury: Callable[[JsonObject, datetime], JsonObject]


@dataclass(frozen=True)
class Provider:
    """A provider has `kinds`, in the order in which they refer to each other, and `id_key`, the key of an object's id.

    `shows_updates` is false where objects do not say when they last changed (Stripe): `upstream_updated_at` is null then.
    """

    name: str
    kinds: tuple[Kind, ...]
    id_key: str = "id"
    shows_updates: bool = True
