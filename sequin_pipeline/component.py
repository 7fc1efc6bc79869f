"""CollectionSync, the Dagster component that a `defs/<provider>/defs.yaml` configures.

It joins what is declared (declared.py) to what Dagster shows (assets.py, schedules.py), and knows where a declaration stands in its
file. What only shows among several files is found by `checked_collections`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from sequin_pipeline.assets import asset_key, build_asset, build_source_spec, group_name
from sequin_pipeline.catalog import Collection, check_tables
from sequin_pipeline.declaration import ProviderModel
from sequin_pipeline.declared import Node, check_keys, collections_of
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.queue_asset import build_queue_asset
from sequin_pipeline.schedules import build_job_and_schedule, check_cron


class CollectionSyncScaffolder(dg.Scaffolder[Any]):
    """`dg scaffold defs sequin_pipeline.component.CollectionSync stripe`: the folder's name is taken as the provider."""

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
        """The schema of `attributes`."""
        return ProviderModel

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What `dg list components` and the docs of the component say."""
        return dg.ComponentTypeSpec(description=cls.__doc__, produces=["asset", "asset_check", "job", "schedule"])

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "CollectionSync":
        """As Dagster's own, but for a file without attributes, which would otherwise be asked for arguments of Python."""
        if attributes is None:
            raise CatalogError(
                "`attributes` are missing: name at least `provider` and `collections`", f"{context.path / 'defs.yaml'}:1"
            )
        component: CollectionSync = super().load(attributes, context)
        return component

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> "CollectionSync":
        """The component that a file declares. Raises CatalogError with file and line of the node at fault."""
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
        """None beside the assets' own, which point at the line of their collection."""
        return []

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Assets with their checks, the API's side of each, the provider's job, and its schedule where one is declared."""
        is_queued = any(collection.is_queued for collection in self.collections)
        return dg.Definitions.merge(
            dg.Definitions(
                assets=[
                    *(build_source_spec(collection) for collection in self.collections),
                    *([build_queue_asset(self.collections)] if is_queued else map(build_asset, self.collections)),
                ]
            ),
            build_job_and_schedule(self.provider, self.collections, cron=self.schedule),
        )


def checked_collections(components: Iterable[CollectionSync], *, ledger_schema: str) -> dict[str, Collection]:
    """The collections of all files by label. Raises CatalogError for what two of them cannot both be."""
    groups: dict[str, CollectionSync] = {}
    queues: dict[tuple[str, str], CollectionSync] = {}
    steps: dict[str, Collection] = {}
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
        _check_queue(component, queues)
        for collection in component.collections:
            step = asset_key(collection).to_python_identifier()
            taken = steps.setdefault(step, collection)
            if taken is not collection:
                raise CatalogError(
                    f"collections {taken.label!r} ({taken.origin or 'no file'}) and {collection.label!r} would both be the step "
                    f"{step!r} of a run: Dagster cannot tell names apart that differ only in `.`, `-` and `_`",
                    collection.origin,
                )
    collections = {collection.label: collection for collection in steps.values()}
    check_tables(collections.values(), ledger_schema)
    return collections


def _check_queue(component: CollectionSync, queues: dict[tuple[str, str], CollectionSync]) -> None:
    """What one run is delivered, no other sees: two files on one consumer would each keep half of the other's records as undeclared."""
    for collection in component.collections:
        if collection.source.queue is None:
            return
        consumer = collection.source.queue.consumer
        first = queues.setdefault((collection.source.kind, consumer), component)
        if first is not component:
            raise CatalogError(
                f"providers {first.provider!r} ({first.origin or 'no file'}) and {component.provider!r} would both drain consumer "
                f"{consumer!r}, whose messages each reach only one of them: give each provider a consumer of its own",
                component.origin,
            )
