"""What Dagster shows of a declaration: assets, lineage, metadata, checks, jobs, and how they load."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from sequin_pipeline.catalog import Column, TableName, Windows, parse_path
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.orchestration.definitions import build_definitions, build_sync_definitions
from tests.orchestration.files import write

DECLARED = """\
  provider: stripe
  owners: ["team:billing"]
  tags: {tier: gold}
  windows: {every: day, start: 2024-02-01T00:00Z}
  collections:
    subscription:
      description: One row per subscription.
      on_delete: remove
      owners: [ann@example.com]
      tags: {domain: billing}
      rejects: {limit_records: 5, limit_share: 0.5}
      columns:
        plan_id: {path: "items.data[0].price.id", type: text, required: true, description: the first item's price}
        renews_at: {path: renews, type: timestamptz, format: epoch_seconds, empty_as_null: true, assume_zone: UTC, round: true}
    billing_portal.session:
"""

SUBSCRIPTION = dg.AssetKey(["stripe", "subscription"])
SESSION = dg.AssetKey(["stripe", "billing_portal.session"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collections")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    return write(folder, stripe=DECLARED)


@pytest.fixture(scope="module")
def definitions(environment: dict[str, str]) -> dg.Definitions:
    return build_definitions(environment)


def spec(definitions: dg.Definitions, key: dg.AssetKey) -> dg.AssetSpec:
    return next(spec for spec in definitions.resolve_all_asset_specs() if spec.key == key)


def test_a_file_becomes_the_catalog(environment: dict[str, str], folder: Path) -> None:
    collections = load_collections(environment)

    assert list(collections) == ["stripe/subscription", "stripe/billing_portal.session"]
    subscription, session = collections.values()
    assert subscription.id == "stripe:subscription"
    assert subscription.table == TableName("stripe", "subscription")
    assert subscription.windows == Windows("day", datetime(2024, 2, 1, tzinfo=UTC))
    assert subscription.on_delete == "remove"
    assert subscription.owners == ("ann@example.com",)
    assert subscription.tags == {"tier": "gold", "domain": "billing"}
    assert (subscription.reject_limit_records, subscription.reject_limit_share) == (5, 0.5)
    assert subscription.origin == f"{folder}/stripe/defs.yaml:8"
    assert subscription.columns == (
        Column("plan_id", parse_path("items.data[0].price.id"), "text", is_required=True, description="the first item's price"),
        Column(
            "renews_at",
            parse_path("renews"),
            "timestamptz",
            time_format="epoch_seconds",
            empty_as_null=True,
            assume_utc=True,
            rounds=True,
        ),
    )
    assert session.table == TableName("stripe", "billing_portal_session")
    assert session.columns == ()
    assert session.owners == ("team:billing",)
    assert session.tags == {"tier": "gold"}


@pytest.mark.parametrize(
    ("keys", "rejects_nulls"),
    [("", False), (", nulls: keep", False), (", nulls: reject", True)],
    ids=["unsaid", "keep", "reject"],
)
def test_a_list_says_whether_it_takes_nulls(tmp_path: Path, keys: str, *, rejects_nulls: bool) -> None:
    declared = f'  provider: demo\n  collections: {{a: {{columns: {{tags: {{path: tags, type: "text[]"{keys}}}}}}}}}\n'

    [collection] = load_collections(write(tmp_path, demo=declared)).values()

    assert collection.columns == (Column("tags", parse_path("tags"), "text[]", rejects_nulls=rejects_nulls),)


def test_the_defaults_are_months_since_2024_and_marked_deletes(tmp_path: Path) -> None:
    environment = write(tmp_path, stripe="  provider: stripe\n  collections: {a: {}}\n")

    (collection,) = load_collections(environment).values()

    assert collection.windows == Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
    assert collection.on_delete == "mark"
    assert (collection.reject_limit_records, collection.reject_limit_share) == (100, 0.01)


def test_a_table_of_public_is_taken_when_asked_for(tmp_path: Path) -> None:
    environment = write(
        tmp_path, stripe="  provider: stripe\n  collections:\n    a:\n      table: {name: public.a, managed: true}\n"
    )

    (collection,) = load_collections(environment).values()

    assert collection.table == TableName("public", "a")


def test_a_collection_is_an_asset_with_the_api_upstream(definitions: dg.Definitions) -> None:
    keys = {spec.key: {dep.asset_key for dep in spec.deps} for spec in definitions.resolve_all_asset_specs()}

    assert keys == {
        SUBSCRIPTION: {dg.AssetKey(["sequin", "stripe", "subscription_source"])},
        SESSION: {dg.AssetKey(["sequin", "stripe", "billing_portal.session_source"])},
        dg.AssetKey(["sequin", "stripe", "subscription_source"]): set(),
        dg.AssetKey(["sequin", "stripe", "billing_portal.session_source"]): set(),
    }


def test_an_asset_shows_what_the_file_says(definitions: dg.Definitions) -> None:
    shown = spec(definitions, SUBSCRIPTION)

    assert shown.description == "One row per subscription."
    assert shown.group_name == "stripe"
    assert list(shown.owners) == ["ann@example.com"]
    assert shown.kinds == {"postgres", "stripe"}
    assert {key: shown.tags[key] for key in ("tier", "domain")} == {"tier": "gold", "domain": "billing"}
    assert shown.metadata["dagster/table_name"] == "stripe.subscription"


def test_an_asset_links_to_the_line_of_its_collection(definitions: dg.Definitions, folder: Path) -> None:
    references = spec(definitions, SUBSCRIPTION).metadata["dagster/code_references"]

    assert references.code_references == [
        dg.LocalFileCodeReference(file_path=str(folder / "stripe" / "defs.yaml"), line_number=8, label="stripe/subscription")
    ]


def test_the_column_schema_has_record_columns_declared_ones_and_constraints(definitions: dg.Definitions) -> None:
    schema = spec(definitions, SUBSCRIPTION).metadata["dagster/column_schema"]

    columns = {column.name: column for column in schema.columns}
    assert list(columns) == [
        "id",
        "upstream_id",
        "internal_id",
        "sync_id",
        "updated_idx",
        "deleted",
        "record_inserted_at",
        "upstream_created_at",
        "upstream_updated_at",
        "plan_id",
        "renews_at",
        "data",
        "content_hash",
        "inserted_at",
        "updated_at",
    ]
    assert columns["id"].constraints == dg.TableColumnConstraints(nullable=False, unique=True)
    assert columns["updated_idx"] == dg.TableColumn(
        "updated_idx",
        type="bigint",
        description="version of the record: greater is newer",
        constraints=dg.TableColumnConstraints(nullable=False),
    )
    assert columns["plan_id"] == dg.TableColumn(
        "plan_id",
        type="text",
        description="the first item's price",
        constraints=dg.TableColumnConstraints(other=["required where the record carries an object"]),
    )
    assert columns["renews_at"].type == "timestamptz"


def test_the_column_lineage_leads_to_paths_of_the_api(definitions: dg.Definitions) -> None:
    lineage = spec(definitions, SUBSCRIPTION).metadata["dagster/column_lineage"]

    source = dg.AssetKey(["sequin", "stripe", "subscription_source"])
    assert lineage.deps_by_column == {
        "plan_id": [dg.TableColumnDep(asset_key=source, column_name="$.items.data[0].price.id")],
        "renews_at": [dg.TableColumnDep(asset_key=source, column_name="$.renews")],
    }


def test_an_asset_has_the_windows_and_the_policies_of_its_step(definitions: dg.Definitions) -> None:
    asset = definitions.resolve_assets_def(SUBSCRIPTION)

    assert isinstance(asset.partitions_def, dg.TimeWindowPartitionsDefinition)
    assert asset.partitions_def.get_partition_keys(current_time=datetime(2024, 2, 2, 5, tzinfo=UTC)) == [
        "2024-02-01",
        "2024-02-02",
    ]
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()
    assert asset.op.retry_policy == dg.RetryPolicy(
        max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
    )
    assert asset.op.pools == {"records_api"}


def test_an_asset_declares_its_four_checks(definitions: dg.Definitions) -> None:
    asset = definitions.resolve_assets_def(SUBSCRIPTION)

    assert [check.name for check in asset.check_specs] == ["conservation", "open_rejects", "required_columns", "drift"]
    assert not any(check.blocking for check in asset.check_specs)


def test_a_provider_has_one_job_over_its_group(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("sync_stripe")

    assert job.asset_layer.executable_asset_keys == {SUBSCRIPTION, SESSION}
    assert job.executor_def.name == "collections"


def test_a_provider_without_a_cron_has_no_schedule(definitions: dg.Definitions) -> None:
    assert [schedule.name for schedule in definitions.schedules or []] == ["full_table_checks_schedule"]


@pytest.mark.parametrize("name", ["help-scout", "7shifts", "HubSpot"])
def test_a_provider_may_have_any_name_that_dagster_can_hold(tmp_path: Path, name: str) -> None:
    environment = write(
        tmp_path, some=f"  provider: {name}\n  schedule: '@hourly'\n  collections: {{Deal-1.x_y: , 9: }}\n".replace("9", "'9'")
    )

    definitions = build_definitions(environment)

    dg.Definitions.validate_loadable(definitions)
    assert {spec.key for spec in definitions.resolve_all_asset_specs()} >= {
        dg.AssetKey([name, "Deal-1.x_y"]),
        dg.AssetKey([name, "9"]),
    }


@pytest.mark.processes
def test_what_is_shipped_loads_in_a_fresh_interpreter_without_environment() -> None:
    code = (
        "import dagster as dg; from sequin_pipeline.definitions import defs; loaded = defs(); dg.Definitions.validate_loadable(loaded);"
        "print(sorted(spec.key.to_user_string() for spec in loaded.resolve_all_asset_specs() if spec.key.path[0] == 'stripe'))"
    )

    loaded = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env={}, capture_output=True, text=True, check=False)

    assert loaded.stderr == ""
    assert "stripe/active_subscriptions_per_plan" in loaded.stdout
    assert "stripe/subscription" in loaded.stdout


def test_what_is_shipped_loads_within_three_seconds() -> None:
    started = time.process_time()

    dg.Definitions.validate_loadable(build_definitions({}))

    assert time.process_time() - started < 3


def test_every_provider_with_a_schedule_is_watched_and_every_table_is_checked(tmp_path: Path) -> None:
    environment = write(
        tmp_path,
        stripe="  provider: stripe\n  schedule: '@hourly'\n  collections: {plan: }\n",
        github="  provider: github\n  collections: {issue: }\n",
    )

    definitions = build_definitions(environment)

    checks = {
        (key.asset_key.to_user_string(), key.name)
        for key in definitions.get_repository_def().asset_graph.asset_check_keys
        if key.name == "freshness" or key.name.startswith("table_")
    }
    of_tables = {"table_row_count", "table_required_columns"}
    assert checks == {
        ("stripe/plan", "freshness"),
        *(("stripe/plan", name) for name in of_tables),
        *(("github/issue", name) for name in of_tables),
    }
    assert sorted(sensor.name for sensor in definitions.sensors or []) == [
        "alert_on_run_failure",
        "end_lost_runs",
        "stripe_freshness",
    ]


def test_a_command_runs_without_the_checks_that_watch() -> None:
    loaded = build_sync_definitions({}).get_repository_def()

    names = {key.name for key in loaded.asset_graph.asset_check_keys}
    assert names == {"conservation", "open_rejects", "required_columns", "drift"}


def test_what_is_built_on_a_collection_runs_in_its_job_after_it() -> None:
    definitions = build_definitions({})

    job = definitions.resolve_job_def("sync_stripe")
    follower = spec(definitions, dg.AssetKey(["stripe", "active_subscriptions_per_plan"]))

    assert {SUBSCRIPTION, follower.key} <= job.asset_layer.executable_asset_keys
    assert {dep.asset_key for dep in follower.deps} == {SUBSCRIPTION}
    assert follower.metadata["sequin_pipeline/key"] == ["plan_id"]
