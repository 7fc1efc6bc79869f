"""Collections in somebody else's project: they bring what they need, and leave alone what is there."""

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

import sequin_pipeline
from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.component import CollectionSync
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.io_manager import PostgresMergeIOManager
from sequin_pipeline.resources import SourceResource, WarehouseResource
from tests.orchestration.files import HEAD, write

STRIPE = "  provider: stripe\n  schedule: '@hourly'\n  collections: {plan: {}}\n"
GITHUB = "  provider: github\n  collections: {issue: {}}\n"
PLAN = dg.AssetKey(["stripe", "plan"])
DEFINITIONS = """\
import dagster as dg
from sequin_pipeline.io_manager import PostgresMergeIOManager
from sequin_pipeline.resources import SourceResource, WarehouseResource

"""

Load = Callable[..., dg.Definitions]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Load:
    """Writes a project as `create-dagster` lays it out, with these files below its defs folder, and loads that."""
    name = f"project_{abs(hash(request.node.nodeid))}"
    defs = tmp_path / "src" / name / "defs"

    def load(files: Mapping[str, str]) -> dg.Definitions:
        defs.mkdir(parents=True)
        (tmp_path / "pyproject.toml").write_text(
            f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{name}"\n'
        )
        for path, text in files.items():
            (defs / path).parent.mkdir(parents=True, exist_ok=True)
            (defs / path).write_text((HEAD if path.endswith(".yaml") else DEFINITIONS) + text)
        monkeypatch.syspath_prepend(tmp_path / "src")
        return dg.load_from_defs_folder(path_within_project=defs)

    yield load
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def cause(error: BaseException) -> BaseException:
    """What was raised below Dagster's picture of the files."""
    return error if error.__cause__ is None else cause(error.__cause__)


def test_one_file_brings_all_that_its_collections_need(load: Load) -> None:
    definitions = load({"stripe/defs.yaml": STRIPE})

    dg.Definitions.validate_loadable(definitions)
    repository = definitions.get_repository_def()
    assert set(definitions.resources) == {"sequin_source", "sequin_warehouse", "sequin_io_manager"}
    assert {job.name for job in definitions.jobs} == {"sync_stripe", "full_table_checks"}
    assert {schedule.name for schedule in definitions.schedules} == {"sync_stripe_schedule", "full_table_checks_schedule"}
    assert {sensor.name for sensor in definitions.sensors} == {"stripe_freshness", "alert_on_run_failure", "end_lost_runs"}
    assert {key.name for key in repository.asset_graph.asset_check_keys} == {
        *("conservation", "open_rejects", "required_columns", "drift"),
        *("freshness", "table_row_count", "table_required_columns"),
    }


def test_several_files_share_what_a_project_has_once(load: Load) -> None:
    definitions = load({"stripe/defs.yaml": STRIPE, "deeper/github/defs.yaml": GITHUB})

    dg.Definitions.validate_loadable(definitions)
    job = definitions.resolve_job_def("full_table_checks")
    assert {key.asset_key.to_user_string() for key in job.asset_layer.asset_graph.asset_check_keys} == {
        "stripe/plan",
        "github/issue",
    }
    names = [sensor.name for sensor in definitions.sensors]
    assert (names.count("alert_on_run_failure"), names.count("end_lost_runs")) == (1, 1)


OWN_RESOURCES = {
    "sequin_source": "SourceResource(variables={'SEQUIN_API_URL': 'http://127.0.0.1:9'})",
    "sequin_warehouse": "WarehouseResource(url=dg.EnvVar('ANALYTICS_URL'))",
    "sequin_io_manager": "PostgresMergeIOManager(warehouse=WarehouseResource(url='postgresql://'), ledger_schema='ours')",
}


@pytest.mark.parametrize("key", OWN_RESOURCES)
@pytest.mark.parametrize("place", ["a_first.py", "zz_last.py", "deeper/in/resources.py"])
def test_a_project_keeps_its_own_resource_of_one_of_our_keys(load: Load, key: str, place: str) -> None:
    own = f"resource = {OWN_RESOURCES[key]}\nours = dg.Definitions(resources={{'{key}': resource}})\n"

    definitions = load({"stripe/defs.yaml": STRIPE, "deeper/github/defs.yaml": GITHUB, place: own})

    dg.Definitions.validate_loadable(definitions)
    kept = {
        "sequin_source": SourceResource(variables={"SEQUIN_API_URL": "http://127.0.0.1:9"}),
        "sequin_warehouse": WarehouseResource(url=dg.EnvVar("ANALYTICS_URL")),
    }
    found = definitions.resources[key]
    assert set(definitions.resources) == set(OWN_RESOURCES)
    assert found == kept[key] if key in kept else isinstance(found, PostgresMergeIOManager) and found.ledger_schema == "ours"


@pytest.mark.parametrize(
    ("key", "own", "said"),
    [
        ("sequin_source", "'mine'", "is of the class str, and collections need a SourceResource"),
        ("sequin_warehouse", "SourceResource()", "is of the class SourceResource, and collections need a WarehouseResource"),
        ("sequin_warehouse", "SourceResource.configure_at_launch()", "is of the class SourceResource, and collections need a "),
        ("sequin_io_manager", "dg.mem_io_manager", "is of the class IOManagerDefinition, and collections need a PostgresMerge"),
        (
            "sequin_io_manager",
            "dg.FilesystemIOManager()",
            "is of the class FilesystemIOManager, and collections need a PostgresMerge",
        ),
    ],
)
def test_a_resource_that_collections_cannot_use_is_refused_when_definitions_load(
    load: Load, key: str, own: str, said: str
) -> None:
    """Otherwise the run would fail, by an attribute that is not there."""
    files = {"stripe/defs.yaml": STRIPE, "resources.py": f"ours = dg.Definitions(resources={{'{key}': {own}}})\n"}

    with pytest.raises(Exception, match="Error while building definitions") as refused:
        load(files)

    assert isinstance(cause(refused.value), ConfigurationError)
    assert f"the project's resource {key!r} {said}" in str(cause(refused.value))


def test_a_warehouse_that_is_configured_when_a_run_is_launched_is_taken(load: Load) -> None:
    definitions = load(
        {
            "stripe/defs.yaml": STRIPE,
            "resources.py": "ours = dg.Definitions(resources={'sequin_warehouse': WarehouseResource.configure_at_launch()})\n",
        }
    )

    dg.Definitions.validate_loadable(definitions)


OWN_PROJECT = """\
@dg.asset(required_resource_keys={"source", "warehouse"})
def mine(): ...

ours = dg.Definitions(
    assets=[mine],
    jobs=[dg.define_asset_job("my_job", selection=[mine])],
    resources={"source": "a", "warehouse": "b", "io_manager": dg.mem_io_manager},
    executor=dg.in_process_executor,
)
"""


def test_a_project_keeps_its_other_resources_its_default_io_manager_and_its_executor(load: Load) -> None:
    definitions = load({"stripe/defs.yaml": STRIPE, "mine.py": OWN_PROJECT})

    dg.Definitions.validate_loadable(definitions)
    kept = {key: definitions.resources[key] for key in ("source", "warehouse", "io_manager")}
    assert kept == {"source": "a", "warehouse": "b", "io_manager": dg.mem_io_manager}
    executors = {
        job: definitions.resolve_job_def(job).executor_def.name for job in ("my_job", "sync_stripe", "full_table_checks")
    }
    assert executors == {"my_job": "in_process", "sync_stripe": "collections", "full_table_checks": "collections"}
    assert definitions.resolve_implicit_global_asset_job_def().executor_def.name == "in_process"
    assert definitions.resolve_assets_def(dg.AssetKey("mine")).op.output_defs[0].io_manager_key == "io_manager"


ASKING = {
    "a Python file before ours": (
        "a.py",
        """\
@dg.definitions
def ours(context: dg.ComponentLoadContext) -> dg.Definitions:
    asked = context.component_tree.build_defs_at_path("stripe")
    assert [job.name for job in asked.jobs] == ["sync_stripe", "full_table_checks"]
    return dg.Definitions(resources={"sequin_warehouse": WarehouseResource(url="postgresql://mine")})
""",
    ),
    "a Python file after ours": (
        "zz.py",
        """\
@dg.definitions
def ours(context: dg.ComponentLoadContext) -> dg.Definitions:
    asked = context.component_tree.build_defs_at_path("stripe")
    assert [job.name for job in asked.jobs] == ["sync_stripe", "full_table_checks"]
    return dg.Definitions(resources={"sequin_warehouse": WarehouseResource(url="postgresql://mine")})
""",
    ),
    "a Python file that asks for another of ours": (
        "a.py",
        """\
@dg.definitions
def ours(context: dg.ComponentLoadContext) -> dg.Definitions:
    asked = context.component_tree.build_defs_at_path("zz_github")
    assert [job.name for job in asked.jobs] == ["sync_github"]
    return dg.Definitions(resources={"sequin_warehouse": WarehouseResource(url="postgresql://mine")})
""",
    ),
}


@pytest.mark.parametrize(("place", "text"), ASKING.values(), ids=ASKING)
def test_a_file_of_the_project_may_ask_for_the_definitions_of_ours(load: Load, place: str, text: str) -> None:
    """To find a project's resources ours looks into its files, one of which may be looking into ours."""
    definitions = load({"stripe/defs.yaml": STRIPE, "zz_github/defs.yaml": GITHUB, place: text})

    dg.Definitions.validate_loadable(definitions)
    assert set(definitions.resources) == set(OWN_RESOURCES)
    assert definitions.resources["sequin_warehouse"] == WarehouseResource(url="postgresql://mine")


def test_a_provider_that_two_files_declare_is_refused_when_definitions_load(load: Load) -> None:
    with pytest.raises(Exception, match="Error while building definitions") as refused:
        load({"stripe/defs.yaml": STRIPE, "other/defs.yaml": STRIPE})

    assert isinstance(cause(refused.value), CatalogError)
    assert "provider 'stripe' has been declared in" in str(cause(refused.value))


def test_a_file_may_change_its_assets_as_files_of_other_components_do(load: Load) -> None:
    changing = 'post_processing:\n  assets:\n    - target: "*"\n      attributes: {tags: {tier: gold}}\n'

    definitions = load({"stripe/defs.yaml": STRIPE + changing, "zz_github/defs.yaml": GITHUB})

    dg.Definitions.validate_loadable(definitions)
    tags = {spec.key.to_user_string(): spec.tags.get("tier") for spec in definitions.resolve_all_asset_specs()}
    assert (tags["stripe/plan"], tags["github/issue"]) == ("gold", None)


IN_PYTHON = """\
from datetime import UTC, datetime
from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.component import CollectionSync

PLAN = Collection("stripe", "plan", TableName("stripe", "plan"), Windows("month", datetime(2024, 1, 1, tzinfo=UTC)))


@dg.component_instance
def ours(context: dg.ComponentLoadContext){annotation}:
    return CollectionSync(provider="stripe", collections=(PLAN,))
"""


@pytest.mark.parametrize("annotation", ["", " -> CollectionSync", " -> 'CollectionSync'"], ids=["untyped", "typed", "quoted"])
def test_a_component_may_be_made_in_python(load: Load, annotation: str) -> None:
    definitions = load(
        {
            "ours.py": IN_PYTHON.replace("{annotation}", annotation),
            "resources.py": "ours = dg.Definitions(resources={'sequin_warehouse': WarehouseResource(url='postgresql://mine')})\n",
        }
    )

    dg.Definitions.validate_loadable(definitions)
    assert definitions.resources["sequin_warehouse"] == WarehouseResource(url="postgresql://mine")
    assert {job.name for job in definitions.jobs} == {"sync_stripe", "full_table_checks"}


def test_a_component_may_be_built_without_a_project() -> None:
    at = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
    component = CollectionSync(provider="stripe", collections=(Collection("stripe", "plan", TableName("stripe", "plan"), at),))

    definitions = dg.build_defs_for_component(component)

    dg.Definitions.validate_loadable(definitions)
    assert set(definitions.resources) == set(OWN_RESOURCES)


@pytest.fixture
def collections(tmp_path: Path) -> Path:
    write(tmp_path / "collections", stripe=STRIPE, github=GITHUB)
    return tmp_path / "collections"


def test_a_project_without_a_defs_folder_merges_what_one_call_returns(collections: Path) -> None:
    @dg.asset
    def mine() -> None: ...

    own = dg.Definitions(
        assets=[mine], resources={"source": "a", "io_manager": dg.mem_io_manager}, executor=dg.in_process_executor
    )

    definitions = dg.Definitions.merge(own, sequin_pipeline.build_defs(collections))

    dg.Definitions.validate_loadable(definitions)
    assert set(definitions.resources) == {"source", "io_manager", *OWN_RESOURCES}
    assert {job.name for job in definitions.jobs} == {"sync_stripe", "sync_github", "full_table_checks"}
    assert {sensor.name for sensor in definitions.sensors} == {"stripe_freshness", "alert_on_run_failure", "end_lost_runs"}
    assert definitions.resolve_job_def("sync_stripe").executor_def.name == "collections"


def test_the_definitions_of_a_call_merge_with_those_of_a_defs_folder(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "collections", github=GITHUB)
    of_folder = load({"mine.py": "@dg.asset\ndef mine(): ...\n"})

    definitions = dg.Definitions.merge(of_folder, sequin_pipeline.build_defs(tmp_path / "collections"))

    dg.Definitions.validate_loadable(definitions)
    assert {"mine", "github/issue"} <= {key.to_user_string() for key in definitions.resolve_all_asset_keys()}


def test_one_call_takes_resources_of_the_project(collections: Path) -> None:
    warehouse = WarehouseResource(url=dg.EnvVar("ANALYTICS_URL"))
    own = dg.Definitions(resources={"sequin_warehouse": warehouse})

    definitions = dg.Definitions.merge(own, sequin_pipeline.build_defs(collections, resources={"sequin_warehouse": warehouse}))

    assert definitions.resources["sequin_warehouse"] is warehouse


@pytest.mark.parametrize(
    ("folder", "resources", "said"),
    [
        ("nowhere", {}, "no <provider>/defs.yaml stands in .*nowhere'"),
        ("collections/stripe", {}, "name the folder above the providers' folders"),
        ("collections", {"sequin_warehouse": "postgresql://"}, "the project's resource 'sequin_warehouse' is of the class str"),
    ],
    ids=["no folder", "a provider's folder", "a resource of another class"],
)
def test_one_call_refuses_what_it_cannot_use(collections: Path, folder: str, resources: Mapping[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        sequin_pipeline.build_defs(collections.parent / folder, resources=resources)


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="module 'sequin_pipeline' has no attribute 'build_definitions'"):
        _ = sequin_pipeline.build_definitions
