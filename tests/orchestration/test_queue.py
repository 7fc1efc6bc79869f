"""The collections of a queue as one step: what the graph says, what a run leaves, and what it refuses to do again."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.orchestration.definitions import build_definitions, build_sync_definitions
from sequin_pipeline.orchestration.launch import Request, backfill_groups, failures_of, live_groups, whole_queues
from sequin_pipeline.orchestration.resources import WAREHOUSE, WarehouseResource
from sequin_pipeline.orchestration.schedules import with_followers
from sequin_pipeline.sandbox.server import running_sandbox
from tests.orchestration.files import write
from tests.sandbox.builders import client
from tests.support.builders import record
from tests.support.queues import feed_of, other
from tests.support.reading import ids_and_versions, query

DEMO = """\
  provider: demo
  source: sequin_consumer
  queue: {consumer: c1, max_records: 500}
  schedule: "*/15 * * * *"
  collections: {thing: {columns: {status: {path: status, type: text}}}, other: {}}
"""
SHOP = """\
  provider: shop
  source: sequin_consumer
  queue: {consumer: c1, max_records: 500}
  collections: {order: {}}
"""
"""Another provider, whose records come through the same consumer."""
NOW = datetime(2026, 11, 1, tzinfo=UTC)
THING, OTHER, ORDER = dg.AssetKey(["demo", "thing"]), dg.AssetKey(["demo", "other"]), dg.AssetKey(["shop", "order"])


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, warehouse_url: str) -> Iterator[str]:
    """A queue of three records, one of them undeclared, and the environment that names it."""
    with running_sandbox(feed_of(record("a"), other("b"), record("u", collection_id="demo:unknown"))) as url:
        monkeypatch.setenv("SEQUIN_API_URL", url)
        monkeypatch.setenv("SEQUIN_API_TOKEN", "any")
        monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
        yield url


def run_job(
    folder: Path, *, tags: Mapping[str, str] | None = None, config: Mapping[str, object] | None = None
) -> dg.ExecuteInProcessResult:
    repository = build_sync_definitions(write(folder, demo=DEMO)).get_repository_def()
    run_config = {"ops": {"drain_demo": {"config": config}}} if config else None
    return repository.get_job("sync_demo").execute_in_process(tags=tags, run_config=run_config, raise_on_error=False)


def test_the_collections_of_a_queue_are_one_step_without_partitions(tmp_path: Path) -> None:
    graph = build_definitions(write(tmp_path, demo=DEMO)).get_repository_def().asset_graph

    assert graph.get(THING).execution_set_asset_keys == {THING, OTHER}
    assert (graph.get(THING).is_partitioned, graph.get(OTHER).is_partitioned) == (False, False)
    assert graph.get(THING).parent_keys == {dg.AssetKey(["sequin", "demo", "thing_source"])}
    assert graph.get(THING).group_name == "demo"
    assert {check.name for check in graph.get_check_keys_for_assets({THING})} >= {"conservation", "open_rejects", "freshness"}


@pytest.mark.usefixtures("sandbox")
def test_a_run_materializes_every_collection_with_its_own_counts_and_checks(tmp_path: Path, warehouse_url: str) -> None:
    result = run_job(tmp_path)

    assert result.success
    assert ids_and_versions(warehouse_url) == [("a", 1, False)]
    assert ids_and_versions(warehouse_url, "demo.other") == [("b", 1, False)]
    by_key = {
        event.asset_key: event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    assert {key: (metadata["inserted"].value, metadata["undeclared"].value) for key, metadata in by_key.items() if key} == {
        THING: (1, 1),
        OTHER: (1, 1),
    }
    evaluations = result.get_asset_check_evaluations()
    assert {(one.asset_key, one.check_name) for one in evaluations if one.passed} == {
        (key, name) for key in (THING, OTHER) for name in ("conservation", "open_rejects", "required_columns", "drift")
    }
    assert query(warehouse_url, "select label, class from sequin_pipeline.rejects") == [("demo/unknown", "undeclared")]


def test_a_run_drains_sequin_stream_with_the_variables_that_it_needs(
    tmp_path: Path, sandbox: str, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQUIN_STREAM_URL", sandbox)
    repository = build_sync_definitions(
        write(tmp_path, demo=DEMO.replace("sequin_consumer", "sequin_stream"))
    ).get_repository_def()

    refused = repository.get_job("sync_demo").execute_in_process(raise_on_error=False)
    monkeypatch.setenv("SEQUIN_STREAM_TOKEN", "any")
    result = repository.get_job("sync_demo").execute_in_process(raise_on_error=False)

    (failure,) = refused.filter_events(lambda event: event.is_step_failure)
    said = failure.step_failure_data.user_failure_data
    assert said is not None
    assert str(said.description).startswith(
        "source 'sequin_stream' needs SEQUIN_STREAM_TOKEN, which the environment does not have"
    )
    assert result.success
    assert query(warehouse_url, "select upstream_id, sync_id, updated_idx, status, deleted from demo.thing") == [
        ("up_a", "s1", 64 * 4096, "active", False)
    ]


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    "tag",
    [
        pytest.param({"dagster/backfill": "abcdef"}, id="a backfill of Dagster's"),
        pytest.param({"sequin_pipeline/mode": "backfill"}, id="a backfill of ours"),
        pytest.param({"sequin_pipeline/full_refresh": "true"}, id="a full refresh"),
        pytest.param({"sequin_pipeline/sync_id": "s1"}, id="one sync"),
    ],
)
def test_a_run_that_asks_to_read_again_is_refused_and_takes_nothing(
    tmp_path: Path, warehouse_url: str, tag: dict[str, str]
) -> None:
    result = run_job(tmp_path, tags=tag)

    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    said = failure.step_failure_data.user_failure_data
    assert said is not None
    assert said.description is not None
    assert said.description.startswith("consumer 'c1' is a queue, which cannot be read again: it has no windows, no backfill")
    assert query(warehouse_url, "select to_regclass('demo.thing')") == [(None,)]


@pytest.mark.usefixtures("sandbox")
def test_a_collection_with_too_many_rejects_fails_the_step_after_all_results_have_been_told(
    tmp_path: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_sandbox(feed_of(record("a", updated_idx="x"), other("b"))) as url:
        monkeypatch.setenv("SEQUIN_API_URL", url)
        result = run_job(tmp_path)

    assert not result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {THING, OTHER}
    assert ids_and_versions(warehouse_url, "demo.other") == [("b", 1, False)]


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        pytest.param({"max_records": 1}, ["next", "ack"], id="enough after one delivery"),
        pytest.param(None, ["next", "ack", "next"], id="as declared: until nothing comes"),
    ],
)
def test_run_config_may_end_a_run_earlier_than_declared(
    tmp_path: Path, sandbox: str, config: dict[str, object] | None, asked: list[str]
) -> None:
    result = run_job(tmp_path, config=config)

    with client(sandbox) as http:
        requests = http.get("/_sandbox/requests").json()["requests"]
    assert result.success
    assert [request["path"].rpartition("/")[2] for request in requests] == asked


def test_the_schedule_asks_for_one_run_of_all_collections_and_no_windows(tmp_path: Path, warehouse_url: str) -> None:
    repository = build_definitions(write(tmp_path, demo=DEMO)).get_repository_def()
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(
            instance=instance,
            repository_def=repository,
            scheduled_execution_time=NOW,
            resources={WAREHOUSE: WarehouseResource(url=warehouse_url)},
        ) as context,
    ):
        tick = repository.get_schedule_def("sync_demo_schedule").evaluate_tick(context)

    (request,) = tick.run_requests or ()
    assert set(request.asset_selection or ()) == {THING, OTHER}
    assert {name: value for name, value in request.tags.items() if name.startswith(("sequin_pipeline/", "dagster/asset"))} == {
        "sequin_pipeline/mode": "live"
    }


def test_commands_run_a_queue_as_a_whole_and_refuse_to_read_it_again(tmp_path: Path) -> None:
    collections = load_collections(write(tmp_path, demo=DEMO))
    thing, rest = collections["demo/thing"], collections["demo/other"]

    whole = whole_queues([thing], collections.values())
    groups = live_groups(whole, {}, Request("live"), now=NOW)

    assert groups == {("demo", None): (thing, rest)}
    assert Request("live").tags(None) == {"sequin_pipeline/mode": "live"}
    for refuse in (
        lambda: live_groups([thing], {}, Request("live", full_refresh=True), now=NOW),
        lambda: live_groups([thing], {}, Request("backfill", sync_id="s1"), now=NOW),
        lambda: backfill_groups([thing], "2026-01", None, now=NOW),
    ):
        with pytest.raises(ConfigurationError, match="demo/thing: consumer 'c1' is a queue, which cannot be read again"):
            refuse()


@pytest.mark.parametrize(
    ("attributes", "line", "message"),
    [
        pytest.param(
            DEMO.replace("queue: {consumer: c1, max_records: 500}", "owners: []"),
            4,
            "source 'sequin_consumer' is a queue: say which consumer is drained, as in queue: {consumer: my-consumer}",
            id="no consumer",
        ),
        pytest.param(
            DEMO.replace("sequin_consumer", "sequin"),
            5,
            "source 'sequin' is not a queue and takes no 'queue': remove it",
            id="no queue",
        ),
        pytest.param(
            DEMO + "  windows: {every: day}\n",
            8,
            "source 'sequin_consumer' is a queue, whose records can be read neither by time nor twice: remove 'windows'",
            id="windows",
        ),
    ],
)
def test_a_declaration_that_says_too_much_or_too_little_of_a_queue_is_refused(
    tmp_path: Path, attributes: str, line: int, message: str
) -> None:
    with pytest.raises(CatalogError) as caught:
        load_collections(write(tmp_path, demo=attributes))

    assert str(caught.value) == f"{tmp_path}/demo/defs.yaml:{line}: {message}"


def test_files_that_name_one_consumer_are_one_step_of_one_job_and_stay_in_their_groups(tmp_path: Path) -> None:
    repository = build_definitions(write(tmp_path, demo=DEMO, shop=SHOP)).get_repository_def()
    graph = repository.asset_graph

    assert graph.get(ORDER).execution_set_asset_keys == {THING, OTHER, ORDER}
    assert (graph.get(THING).group_name, graph.get(ORDER).group_name) == ("demo", "shop")
    assert graph.get(ORDER).parent_keys == {dg.AssetKey(["sequin", "shop", "order_source"])}
    assert {name for name in repository.job_names if name.startswith("sync_")} == {"sync_demo_shop"}
    assert {schedule.name for schedule in repository.schedule_defs} == {"sync_demo_shop_schedule", "full_table_checks_schedule"}
    assert {name for name in map(str, graph.get_check_keys_for_assets({ORDER})) if "freshness" in name}
    assert {sensor.name for sensor in repository.sensor_defs} >= {"demo_freshness", "shop_freshness"}


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("kind", ["sequin_consumer", "sequin_stream"])
def test_one_run_drains_a_queue_for_all_its_providers(
    tmp_path: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    declared = {name: text.replace("sequin_consumer", kind) for name, text in {"demo": DEMO, "shop": SHOP}.items()}
    with running_sandbox(feed_of(record("a"), other("b"), record("c", collection_id="shop:order"))) as url:
        for variable in ("SEQUIN_API_URL", "SEQUIN_STREAM_URL"):
            monkeypatch.setenv(variable, url)
        monkeypatch.setenv("SEQUIN_STREAM_TOKEN", "any")
        repository = build_sync_definitions(write(tmp_path, **declared)).get_repository_def()
        result = repository.get_job("sync_demo_shop").execute_in_process(raise_on_error=False)

    assert result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {THING, OTHER, ORDER}
    tables = ("demo.thing", "demo.other", 'shop."order"')
    stored = [query(warehouse_url, f"select upstream_id, deleted from {table}") for table in tables]
    assert stored == [[("up_a", False)], [("up_b", False)], [("up_c", False)]]
    assert query(warehouse_url, "select count(*) from sequin_pipeline.rejects") == [(0,)]


def test_commands_run_a_queue_for_all_its_providers_whichever_is_named(tmp_path: Path) -> None:
    collections = load_collections(write(tmp_path, demo=DEMO, shop=SHOP))
    thing, rest, order = (collections[label] for label in ("demo/thing", "demo/other", "shop/order"))

    whole = whole_queues([order], collections.values())
    groups = live_groups(whole, {}, Request("live"), now=NOW)

    assert groups == {("demo_shop", None): (order, thing, rest)}


@pytest.mark.parametrize(
    ("others", "message"),
    [
        pytest.param(
            {"shop": SHOP.replace("500", "600")},
            "{folder}/shop/defs.yaml:3: providers 'demo' ({folder}/demo/defs.yaml:3) and 'shop' drain one consumer in one run, and "
            "disagree about when it ends, or by how many steps: make `queue` the same in both files",
            id="limits",
        ),
        pytest.param(
            {"shop": SHOP + '  schedule: "0 * * * *"\n'},
            "{folder}/shop/defs.yaml:3: providers 'demo' ({folder}/demo/defs.yaml:3) and 'shop' drain one consumer in one run, with "
            "schedules '*/15 * * * *' and '0 * * * *': keep `schedule` in one of the files",
            id="schedules",
        ),
        pytest.param(
            {"shop": SHOP, "taken": "  provider: demo-shop\n  collections: {thing: {}}\n"},
            "{folder}/demo/defs.yaml:3: providers 'demo', 'shop' drain one consumer in one run, whose job 'sync_demo_shop' would "
            "have the same name as that of 'demo-shop' ({folder}/taken/defs.yaml:3): rename a provider",
            id="names",
        ),
        pytest.param(
            {
                "shop": SHOP.replace("provider: shop", "provider: shop_eu"),
                "taken": SHOP.replace("provider: shop", "provider: demo_shop").replace("c1", "c2"),
                "taker": SHOP.replace("provider: shop", "provider: eu").replace("c1", "c2"),
            },
            "{folder}/taken/defs.yaml:3: providers 'demo_shop', 'eu' drain one consumer in one run, whose job 'sync_demo_shop_eu' would "
            "have the same name as that of 'demo' ({folder}/demo/defs.yaml:3): rename a provider",
            id="names of queues",
        ),
    ],
)
def test_files_that_say_different_things_of_one_queue_are_refused(tmp_path: Path, others: dict[str, str], message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_collections(write(tmp_path, demo=DEMO, **others))

    assert str(caught.value) == message.format(folder=tmp_path)


def test_each_consumer_is_a_step_beside_the_first_that_every_launcher_runs(tmp_path: Path) -> None:
    folder = write(tmp_path, demo=DEMO.replace("consumer: c1", "consumer: c1, consumers: 3"))
    repository = build_definitions(folder).get_repository_def()
    beside = {dg.AssetKey(["sequin", "drain_demo_2"]), dg.AssetKey(["sequin", "drain_demo_3"])}

    collections = list(load_collections(folder).values())

    assert set(with_followers(repository, collections)) == {THING, OTHER, *beside}
    assert {repository.asset_graph.get(key).group_name for key in beside} == {"demo"}
    consumers = {node.name: node.tags.get("sequin_pipeline/consumers") for node in repository.get_job("sync_demo").nodes}
    assert {name: consumers[name] for name in consumers if name.startswith("drain_")} == {
        "drain_demo": "3",
        "drain_demo_2": "3",
        "drain_demo_3": "3",
    }


@pytest.mark.usefixtures("sandbox")
def test_consumers_share_a_queue_and_their_counts_add_up(
    tmp_path: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends after one delivery of 1,000, so that all of them have a share."""
    declared = DEMO.replace("consumer: c1, max_records: 500", "consumer: c1, consumers: 3, max_records: 1")
    messages = [record(f"a{number}") for number in range(2_300)] + [other("b"), record("u", collection_id="demo:unknown")]
    with running_sandbox(feed_of(*messages)) as url:
        monkeypatch.setenv("SEQUIN_API_URL", url)
        repository = build_sync_definitions(write(tmp_path, demo=declared)).get_repository_def()
        result = repository.get_job("sync_demo").execute_in_process(raise_on_error=False)
        with client(url) as http:
            left = http.get("/v1/http-consumers/c1/next").json()

    assert result.success
    assert left["data"] == []
    stored = query(warehouse_url, "select (select count(*) from demo.thing), (select count(*) from demo.other)")
    assert stored == [(2_300, 1)]
    told = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == THING
    ] + [
        event.asset_observation_data.asset_observation
        for event in result.get_asset_observation_events()
        if event.asset_key == THING
    ]
    assert sorted(int(str(one.metadata["inserted"].value)) for one in told) == [300, 1000, 1000]
    assert query(warehouse_url, "select sum(fetched), sum(inserted) from sequin_pipeline.merges where label = 'demo/thing'") == [
        (2_300, 2_300)
    ]


@pytest.mark.usefixtures("sandbox")
def test_a_consumer_that_fails_is_told_by_its_collection_and_takes_nothing_from_the_others(
    tmp_path: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = DEMO.replace("consumer: c1, max_records: 500", "consumer: c1, consumers: 2, max_records: 1")
    messages = [*(record(f"a{number}") for number in range(1_000)), *(record(f"x{n}", updated_idx="x") for n in range(200))]
    with running_sandbox(feed_of(*messages)) as url:
        monkeypatch.setenv("SEQUIN_API_URL", url)
        collections = list(load_collections(write(tmp_path, demo=declared)).values())
        repository = build_sync_definitions(write(tmp_path, demo=declared)).get_repository_def()
        result = repository.get_job("sync_demo").execute_in_process(raise_on_error=False)

    assert set(failures_of(result, collections)) == {"demo/thing"}
    assert query(warehouse_url, "select count(*) from demo.thing") == [(1_000,)]
    assert query(warehouse_url, "select count(*) from sequin_pipeline.rejects where resolved_at is null") == [(200,)]
