"""This module says what the pipeline has to know of a source before it opens it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.sources import Source

Environment = Mapping[str, str]


@dataclass(frozen=True)
class SourceKind:
    """This value describes one kind of source.

    `variables` names what the environment must hold for a declaration, `open` builds the source once it does. `can_reread` and
    `observes_time` are those of its sources; `observes_time` may also name the collections for which it is true. `collections` are the
    names that can be declared (None: any). `reads_records_api`: the sandbox can stand in for it, and does where no address is set.
    `reads_accounts`: the declaration's accounts say what is read. `lists_again`: the declaration's `relist_hours` say how often
    everything is listed; `lists_from_a_start`: such a listing may leave out what is old. `takes_options`: a defs.yaml may have
    `options` for it. `optional` names what it heeds in the environment, and does without. `is_cheap_to_ask`: a tick may ask it whether
    there is anything new, which for others costs as much as a run.
    """

    variables: Callable[[SourceDeclaration], tuple[str, ...]]
    open: Callable[[SourceDeclaration, Environment], Source]
    can_reread: bool
    observes_time: bool | frozenset[str]
    collections: frozenset[str] | None = None
    reads_records_api: bool = False
    reads_accounts: bool = False
    lists_again: bool = False
    lists_from_a_start: bool = False
    takes_options: bool = False
    optional: Callable[[SourceDeclaration], tuple[str, ...]] = lambda declaration: ()
    is_cheap_to_ask: bool = True

    def observes_time_of(self, collection: str) -> bool:
        """Says, for one collection, whether its versions are times of observation."""
        return self.observes_time if isinstance(self.observes_time, bool) else collection in self.observes_time


class SourceClass(Protocol):
    """A source's class can be named in a defs.yaml, by an entry point or as `package.module:Class`; `open` makes a Source.

    `can_reread` and `observes_time` are those of Source; where only some collections observe time, `observes_time` holds their names.
    A class may also have `variables`, the names of what it needs from the environment beside its options (or a function of the
    declaration that returns them), `collections`, the names that can be declared, and `lists_again = True` if `relist_hours` mean
    something to it.
    """

    can_reread: ClassVar[bool]
    observes_time: ClassVar[bool | frozenset[str]]

    @classmethod
    def open(cls, declaration: SourceDeclaration, environment: Environment) -> Source:
        """Builds a source that has sent nothing yet.

        Of `declaration.options`, each `{env: NAME}` has become what the environment holds. Raises ConfigurationError for what cannot
        be used.
        """
        ...


def missing_in(environment: Environment, variables: Iterable[str]) -> tuple[str, ...]:
    """Returns those of the variables, each once, that the environment lacks or holds empty."""
    return tuple(name for name in dict.fromkeys(variables) if not environment.get(name, "").strip())
