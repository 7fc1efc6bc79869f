"""CollectionSync is the Dagster component that a `defs/<provider>/defs.yaml` configures.

It joins what is declared (declare/parse.py) to what Dagster shows (assets.py, schedules.py, freshness.py, table_checks.py, alerts.py),
and knows where a declaration stands in its file. What only shows across several files is in across_files.py.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from sequin_pipeline.catalog import Collection
from sequin_pipeline.declare.node import Node, check_keys
from sequin_pipeline.declare.parse import collections_of
from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.environment.lost_after import lost_after_seconds
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.orchestration.across_files import Declaration, checked_collections, run_together, schedule_of
from sequin_pipeline.orchestration.alerts import build_alert_sensors
from sequin_pipeline.orchestration.assets import build_asset, build_source
from sequin_pipeline.orchestration.child_assets import build_child_specs
from sequin_pipeline.orchestration.freshness import build_freshness
from sequin_pipeline.orchestration.lost_runs import build_lost_runs_sensor
from sequin_pipeline.orchestration.project_resources import is_of_project, missing_resources
from sequin_pipeline.orchestration.queue_asset import build_queue_assets
from sequin_pipeline.orchestration.schedules import build_job_and_schedule, check_cron
from sequin_pipeline.orchestration.source_keys import source_key
from sequin_pipeline.orchestration.table_checks import build_table_check_job, build_table_checks


class CollectionSyncScaffolder(dg.Scaffolder[Any]):
    """This scaffolds `dg scaffold defs sequin_pipeline.component.CollectionSync stripe`, taking the folder's name as the provider."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Writes a defs.yaml that loads: one collection named example, for the user to rename."""
        folder = request.target_path.parent if request.append else request.target_path
        dg.scaffold_component(request, {"provider": folder.name, "collections": {"example": {}}})


@dg.scaffold_with(CollectionSyncScaffolder)
@dataclass(frozen=True)
class CollectionSync(dg.Component, dg.Resolvable):
    """Syncs collections of one provider into Postgres tables, each an asset with windows, checks and lineage."""

    provider: str
    collections: tuple[Collection, ...]
    schedule: str | None = None
    skip_empty: bool = True
    origin: str | None = None

    @classmethod
    def model(cls) -> type[BaseModel]:
        """Returns the schema of `attributes`."""
        return ProviderModel

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """Returns what `dg list components` and the docs of the component say."""
        return dg.ComponentTypeSpec(
            description=cls.__doc__, produces=["asset", "asset_check", "job", "schedule", "sensor", "resource"]
        )

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
            skip_empty=model.skip_empty,
            origin=(node / "provider").origin,
        )

    @classmethod
    def get_code_references_for_yaml(
        cls, yaml_path: Path, source_position: object, context: dg.ComponentLoadContext
    ) -> Sequence[dg.LocalFileCodeReference]:
        """Returns none beside the assets' own, which point at the line of their collection."""
        return []

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Builds all that the file's collections need: assets, checks, job, schedule, sensor, and those resources that the project lacks.

        Of several files the first one's definitions hold what a project has once; of several that drain one queue the first one's hold
        the step, the job and the schedule of all.
        """
        files = _files_beside(self, context.component_tree)
        parts = [
            dg.Definitions(
                assets=[build_source(collection) for collection in self._first_of_sources(files)],
                resources=missing_resources(context.component_tree, CollectionSync),
            ),
            self._build_runs(files),
            build_table_checks(self.collections),
        ]
        if (cron := schedule_of(run_together(self, files))) is not None:
            parts.append(build_freshness(self.provider, self.collections, cron=cron))
        if self.is_first(files):
            collections = tuple(checked_collections(files, ledger_schema=DEFAULT_SCHEMA).values())
            sensors = [build_lost_runs_sensor(lost_after_seconds(os.environ)), *build_alert_sensors(collections)]
            parts += [build_table_check_job(collections), dg.Definitions(sensors=sensors)]
        return dg.Definitions.merge(*parts)

    def _build_runs(self, files: Sequence[Declaration]) -> dg.Definitions:
        together = run_together(self, files)
        if not self.is_first(together):
            return dg.Definitions()
        collections = [collection for file in together for collection in file.collections]
        assets = build_queue_assets(collections) if self.is_queued else list(map(build_asset, collections))
        return dg.Definitions.merge(
            dg.Definitions(assets=[*assets, *(spec for collection in collections for spec in build_child_specs(collection))]),
            build_job_and_schedule(collections, cron=schedule_of(together), skip_empty=self.skip_empty),
        )

    def _first_of_sources(self, files: Sequence[Declaration]) -> Sequence[Collection]:
        """Returns the collections whose upstream asset no earlier collection of any file has: several may be read from one address."""
        seen: dict[dg.AssetKey, Collection] = {}
        for file in files:
            for collection in file.collections:
                seen.setdefault(source_key(collection), collection)
        return [one for one in self.collections if seen.get(source_key(one), one).id == one.id]

    def is_first(self, files: Sequence[Declaration]) -> bool:
        """Says whether this is the first of several files; a provider has only one."""
        return files[0].provider == self.provider

    @property
    def is_queued(self) -> bool:
        """This is true where the file's collections are read from a queue; all of them are read from one source."""
        return self.collections[0].is_queued


def _files_beside(component: CollectionSync, tree: dg.ComponentTree) -> Sequence[CollectionSync]:
    """Returns all files of the project in their order, and the component itself where Dagster does not find it in the project."""
    found = tree.get_all_components(CollectionSync) if is_of_project(tree) else []
    return found if any(other.provider == component.provider for other in found) else [*found, component]
