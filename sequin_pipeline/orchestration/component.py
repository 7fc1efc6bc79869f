"""CollectionSync is the Dagster component that a `defs/<provider>/defs.yaml` configures.

It joins what is declared (declare/parse.py) to what Dagster shows (assets.py, schedules.py), and knows where a declaration stands in
its file. What only shows across several files is found by `checked_collections`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from sequin_pipeline.catalog import Collection, check_tables
from sequin_pipeline.declare.node import Node, check_keys
from sequin_pipeline.declare.parse import collections_of
from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.orchestration.assets import asset_key, build_asset, build_source_spec, group_name, run_name
from sequin_pipeline.orchestration.queue_asset import build_queue_asset
from sequin_pipeline.orchestration.schedules import build_job_and_schedule, check_cron, job_name


class CollectionSyncScaffolder(dg.Scaffolder[Any]):
    """This scaffolds `dg scaffold defs sequin_pipeline.component.CollectionSync stripe`, taking the folder's name as the provider."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Writes a defs.yaml that loads: one collection named example, for the user to rename."""
        folder = request.target_path.parent if request.append else request.target_path
        dg.scaffold_component(request, {"provider": folder.name, "collections": {"example": {}}})


@dg.scaffold_with(CollectionSyncScaffolder)
@dataclass(frozen=True)
class CollectionSync(dg.Component, dg.Resolvable):
    """Syncs collections of one provider of the records API into Postgres tables, each an asset with windows, checks and lineage."""

    provider: str
    collections: tuple[Collection, ...]
    schedule: str | None = None
    origin: str | None = None

    @classmethod
    def model(cls) -> type[BaseModel]:
        """Returns the schema of `attributes`."""
        return ProviderModel

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """Returns what `dg list components` and the docs of the component say."""
        return dg.ComponentTypeSpec(description=cls.__doc__, produces=["asset", "asset_check", "job", "schedule"])

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "CollectionSync":
        """Loads as Dagster does, but refuses a file without attributes, which would otherwise be asked for arguments of Python."""
        if attributes is None:
            raise CatalogError(
                "`attributes` are missing: name at least `provider` and `collections`", f"{context.path / 'defs.yaml'}:1"
            )
        component: CollectionSync = super().load(attributes, context)
        return component

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> "CollectionSync":
        """Returns the component that a file declares; raises CatalogError with file and line of the faulty node."""
        assert isinstance(model, ProviderModel)  # noqa: S101 - what model() says, and nobody else calls this

        def origin_of(path: tuple[str | int, ...]) -> str | None:
            if context.source_position_tree is None:
                return None
            position, _ = context.source_position_tree.lookup_closest_and_path([*context.path, *path], None)
            return str(position)

        node = Node(origin_of)
        if context.source_position_tree is not None:
            filename = context.source_position_tree.position.filename
            check_keys(Path(filename).read_text(encoding="utf-8"), filename)
        if model.schedule is not None:
            check_cron(model.schedule, (node / "schedule").origin)
        return cls(
            provider=model.provider,
            collections=collections_of(model, node, now=datetime.now(UTC)),
            schedule=model.schedule,
            origin=(node / "provider").origin,
        )

    @classmethod
    def get_code_references_for_yaml(
        cls, yaml_path: Path, source_position: object, context: dg.ComponentLoadContext
    ) -> Sequence[dg.LocalFileCodeReference]:
        """Returns none beside the assets' own, which point at the line of their collection."""
        return []

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Builds the assets with their checks, the API's side of each, the provider's job, and its schedule where one is declared.

        Of several files that drain one queue the first one's definitions hold the step, the job and the schedule of all.
        """
        sources = dg.Definitions(assets=[build_source_spec(collection) for collection in self.collections])
        if not self.is_queued:
            return dg.Definitions.merge(
                sources,
                dg.Definitions(assets=list(map(build_asset, self.collections))),
                build_job_and_schedule(self.collections, cron=self.schedule),
            )
        together = run_together(self, context.component_tree.get_all_components(CollectionSync))
        if together[0].provider != self.provider:
            return sources
        collections = [collection for component in together for collection in component.collections]
        return dg.Definitions.merge(
            sources,
            dg.Definitions(assets=[build_queue_asset(collections)]),
            build_job_and_schedule(collections, cron=schedule_of(together)),
        )

    @property
    def is_queued(self) -> bool:
        """This is true where the file's collections are read from a queue; all of them are read from one source."""
        return self.collections[0].is_queued


def run_together(component: CollectionSync, components: Iterable[CollectionSync]) -> tuple[CollectionSync, ...]:
    """Returns the files whose collections are one step of one run, `component` among them.

    Those are the files that drain its queue, in the order of `components`; otherwise it is alone.
    """
    queue = component.collections[0].queue_key
    if queue is None:
        return (component,)
    return tuple(other for other in components if other.collections[0].queue_key == queue)


def schedule_of(components: Iterable[CollectionSync]) -> str | None:
    """Returns the schedule of files that run together, which any of them may declare."""
    return next((component.schedule for component in components if component.schedule is not None), None)


def checked_collections(components: Iterable[CollectionSync], *, ledger_schema: str) -> dict[str, Collection]:
    """Returns the collections of all files by label; raises CatalogError where two of them contradict each other."""
    groups: dict[str, CollectionSync] = {}
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


def _check_together(components: Sequence[CollectionSync]) -> None:
    """Refuses several files that say different things of the queue that they drain together: none has precedence over another."""
    first, *others = components
    queue = first.collections[0].source.queue
    cron = schedule_of(components)
    for other in others:
        between = f"providers {first.provider!r} ({first.origin or 'no file'}) and {other.provider!r} drain"
        if other.collections[0].source.queue != queue:
            raise CatalogError(
                f"{between} one consumer in one run, and disagree about when it ends: make `queue` the same in both files",
                other.origin,
            )
        if other.schedule not in (None, cron):
            raise CatalogError(
                f"{between} one consumer in one run, with schedules {cron!r} and {other.schedule!r}: keep `schedule` in one of the files",
                other.origin,
            )


def _check_name(components: Sequence[CollectionSync], taken: CollectionSync) -> None:
    """Refuses a run whose name is already taken; `taken` is the first file of the run that has it."""
    if taken is not components[0]:
        name = job_name(run_name([component.collections[0] for component in components]))
        raise CatalogError(
            f"providers {', '.join(repr(component.provider) for component in components)} drain one consumer in one run, whose job "
            f"{name!r} would have the same name as that of {taken.provider!r} ({taken.origin or 'no file'}): rename a provider",
            components[0].origin,
        )
