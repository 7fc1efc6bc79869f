"""This module keeps what is known of each partition while a collection is read, and writes it as the state."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from sequin_pipeline.reads import Read
from sequin_pipeline.sources.rest.lists import ListPage
from sequin_pipeline.sources.rest.state import State, read_state, write_state


class Knowledge:
    """Knowledge begins with an earlier state; a version beyond `latest` tells nothing, whatever an object says of itself: to believe it
    even in part would pass over all that changes until then."""

    def __init__(self, text: bytes | None, *, latest: int) -> None:
        self._state = read_state(text)
        self._latest = latest

    def text(self) -> bytes:
        """Returns the state as it is now."""
        return write_state(self._state)

    @property
    def is_by_changes(self) -> bool:
        """Says whether the whole list has been read, so that its list of changes tells the rest."""
        return self._state.changes is not None

    def begin_list(self, moment: int) -> None:
        """Takes note of when a whole list began to be read, which a list of changes is to follow."""
        if self._state.began is None:
            self._state = replace(self._state, began=moment)

    def begin_changes(self, names: Iterable[str]) -> None:
        """Lets what changed while the list was read be asked for from the time on at which that began."""
        began = self._state.began or 0
        self._state = State(list=self._state.list, changes=dict.fromkeys(names, began))

    def of(self, name: str, read: Read) -> int | None:
        """Returns the version up to which a partition is known: what an order told that is no longer declared does not count."""
        if name in self._state.under_way and not read.is_ascending:
            return self._state.under_way[name]
        return self._known.get(name)

    def know(self, name: str, version: int) -> None:
        """Takes note of a version up to which a partition is known."""
        if version > self._latest:
            return
        known = {**self._known, name: max(self._known.get(name, 0), version)}
        self._state = replace(self._state, changes=known) if self.is_by_changes else replace(self._state, list=known)

    def follow(self, name: str, page: ListPage, earlier: int | None) -> None:
        """Takes note of a page of a list in the order of its versions: whether that is true of all of it is known at its end."""
        rest = {other: known for other, known in self._state.under_way.items() if other != name}
        if page.has_next:
            rest[name] = self._state.under_way.get(name, earlier)
        self._state = replace(self._state, under_way=rest)

    @property
    def _known(self) -> Mapping[str, int]:
        return self._state.list if self._state.changes is None else self._state.changes
