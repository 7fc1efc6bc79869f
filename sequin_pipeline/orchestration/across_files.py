"""This module looks across the files of a project: which of them run together, and where two of them contradict each other."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from sequin_pipeline.catalog import Collection, check_tables
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.orchestration.assets import asset_key, group_name, run_name
from sequin_pipeline.orchestration.schedules import job_name


class Declaration(Protocol):
    """This is what a file declares, as far as it concerns other files; `origin` is `file:line`, where it is known."""

    @property
    def provider(self) -> str: ...
    @property
    def collections(self) -> tuple[Collection, ...]: ...
    @property
    def schedule(self) -> str | None: ...
    @property
    def origin(self) -> str | None: ...


def run_together(component: Declaration, components: Iterable[Declaration]) -> tuple[Declaration, ...]:
    """Returns the files whose collections are one step of one run, `component` among them.

    Those are the files that drain its queue, in the order of `components`; otherwise it is alone.
    """
    queue = component.collections[0].queue_key
    if queue is None:
        return (component,)
    return tuple(other for other in components if other.collections[0].queue_key == queue)


def schedule_of(components: Iterable[Declaration]) -> str | None:
    """Returns the schedule of files that run together, which any of them may declare."""
    return next((component.schedule for component in components if component.schedule is not None), None)


def checked_collections(components: Iterable[Declaration], *, ledger_schema: str) -> dict[str, Collection]:
    """Returns the collections of all files by label; raises CatalogError where two of them contradict each other."""
    groups: dict[str, Declaration] = {}
    steps: dict[str, Collection] = {}
    components = list(components)
    for component in components:
        first = groups.setdefault(group_name(component.provider), component)
        if first is not component and first.provider == component.provider:
            raise CatalogError(
                f"provider {component.provider!r} has been declared in {first.origin or 'no file'} already: keep one declaration",
                component.origin,
            )
        if first is not component:
            raise CatalogError(
                f"providers {first.provider!r} ({first.origin or 'no file'}) and {component.provider!r} would share the group "
                f"{group_name(component.provider)!r}: Dagster cannot tell groups apart that differ only in `-` and `_`",
                component.origin,
            )
        for collection in component.collections:
            step = asset_key(collection).to_python_identifier()
            taken = steps.setdefault(step, collection)
            if taken is not collection:
                raise CatalogError(
                    f"collections {taken.label!r} ({taken.origin or 'no file'}) and {collection.label!r} would both be the step "
                    f"{step!r} of a run: Dagster cannot tell names apart that differ only in `.`, `-` and `_`",
                    collection.origin,
                )
    runs = dict(groups)
    for component in components:
        together = run_together(component, components)
        _check_together(together)
        _check_name(together, runs.setdefault(run_name([one.collections[0] for one in together]), together[0]))
    collections = {collection.label: collection for collection in steps.values()}
    check_tables(collections.values(), ledger_schema)
    return collections


def _check_together(components: Sequence[Declaration]) -> None:
    """Refuses several files that say different things of the queue that they drain together: none has precedence over another."""
    first, *others = components
    queue = first.collections[0].source.queue
    cron = schedule_of(components)
    for other in others:
        between = f"providers {first.provider!r} ({first.origin or 'no file'}) and {other.provider!r} drain"
        if other.collections[0].source.queue != queue:
            raise CatalogError(
                f"{between} one consumer in one run, and disagree about when it ends, or by how many steps: make `queue` the same in "
                "both files",
                other.origin,
            )
        if other.schedule not in (None, cron):
            raise CatalogError(
                f"{between} one consumer in one run, with schedules {cron!r} and {other.schedule!r}: keep `schedule` in one of the files",
                other.origin,
            )


def _check_name(components: Sequence[Declaration], taken: Declaration) -> None:
    """Refuses a run whose name is already taken; `taken` is the first file of the run that has it."""
    if taken is not components[0]:
        name = job_name(run_name([component.collections[0] for component in components]))
        raise CatalogError(
            f"providers {', '.join(repr(component.provider) for component in components)} drain one consumer in one run, whose job "
            f"{name!r} would have the same name as that of {taken.provider!r} ({taken.origin or 'no file'}): rename a provider",
            components[0].origin,
        )
