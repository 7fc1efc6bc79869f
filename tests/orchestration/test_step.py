"""What the step of a collection's asset asks to be read, what it says about what was written, and how it fails."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.errors import ConfigurationError, SourceUnavailable
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.drift import Drift
from sequin_pipeline.ledger.held_deletes import HeldDeletes
from sequin_pipeline.orchestration.assets import build_asset
from sequin_pipeline.orchestration.partitions import build_partitions
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE
from sequin_pipeline.orchestration.run_config import CollectionConfig
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import TimeWindow

COLLECTION = Collection("stripe", "plan", TableName("stripe", "plan"), Windows("month", datetime(2024, 1, 1, tzinfo=UTC)))
KEY = dg.AssetKey(["stripe", "plan"])
AT_ONCE = dg.RetryPolicy(max_retries=1, delay=0)
WENT_WELL = Counts(fetched=7, inserted=1, updated=1, deleted=1, unchanged=1, stale=1, duplicate=1, rejected=1)
NO_DRIFT = Drift()
LIVE = {"sequin_pipeline/mode": "live"}
ONE = Counts(fetched=1, inserted=1, created=1)
ONE_RECORD = SyncOutcome(
    counts=ONE,
    counts_by_window={"2024-03": ONE},
    rows=8,
    cursor="Nw",
    lag_seconds=0.0,
    pages=1,
    requests=2,
    bytes=300,
    retries=1,
    rate_limit_seconds=0.5,
    wal_bytes=400,
    outside=3,
    swept=0,
    refilled=0,
    seconds={"copy": 0.25},
    open_rejects=0,
    missing_parents=0,
    discarded=0,
    settled=0,
    reject_examples=(),
)
"""What a run did that found one record, in March."""


GOOD = replace(ONE_RECORD, counts=WENT_WELL)


class Sink(dg.IOManager):
    """Takes the stream and says that `found` was found."""

    def __init__(self, found: SyncOutcome) -> None:
        self._found = found
        self.run_configs: list[RunConfig] = []

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise NotImplementedError

    def sync(self, stream: RecordStream, *, run_id: str, log: object) -> SyncOutcome:
        self.run_configs.append(stream.run_config)
        return self._found

    def load_input(self, context: dg.InputContext) -> object:
        raise NotImplementedError


class Opened:
    """A source resource whose `open` gives a source that nobody reads, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def open(self, collection: Collection) -> object:
        if self._error is not None:
            raise self._error
        return object()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(
    instance: dg.DagsterInstance,
    first: str,
    last: str,
    *,
    tags: dict[str, str] | None = None,
    config: CollectionConfig | None = None,
    found: SyncOutcome | None = None,
    source: Opened | None = None,
) -> tuple[dg.ExecuteInProcessResult, Sink]:
    sink = Sink(found or GOOD)
    result = dg.materialize(
        [build_asset(COLLECTION, retry_policy=AT_ONCE)],
        resources={SOURCE: source or Opened(), IO_MANAGER: sink},
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last, **(tags or {})},
        run_config=dg.RunConfig({"stripe__plan": config}) if config else None,
        instance=instance,
        raise_on_error=False,
    )
    return result, sink


def present_key() -> str:
    return build_partitions(COLLECTION.windows).get_partition_keys()[-1]


def retries(result: dg.ExecuteInProcessResult) -> int:
    return len([event for event in result.all_events if event.is_step_up_for_retry])


def failure_description(result: dg.ExecuteInProcessResult) -> str | None:
    (failure,) = result.get_step_failure_events()
    told = failure.step_failure_data.user_failure_data
    return told.description if told else None


def test_a_live_run_plans_its_windows(instance: dg.DagsterInstance) -> None:
    result, sink = run(instance, "2024-01", "2024-03", tags=LIVE)

    assert result.success
    assert sink.run_configs == [
        RunConfig(
            collection=COLLECTION,
            mode="live",
            window=TimeWindow(None, datetime(2024, 4, 1, tzinfo=UTC)),
            partition_keys=("2024-01", "2024-02", "2024-03"),
            window_starts=(
                datetime(2024, 1, 1, tzinfo=UTC),
                datetime(2024, 2, 1, tzinfo=UTC),
                datetime(2024, 3, 1, tzinfo=UTC),
            ),
        )
    ]


def test_a_run_over_the_past_is_a_backfill_of_its_windows(instance: dg.DagsterInstance) -> None:
    _, sink = run(instance, "2024-02", "2024-02")

    assert sink.run_configs == [
        RunConfig(
            collection=COLLECTION,
            mode="backfill",
            window=TimeWindow(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
            partition_keys=("2024-02",),
            window_starts=(datetime(2024, 2, 1, tzinfo=UTC),),
        )
    ]


def test_a_run_over_the_present_window_is_live(instance: dg.DagsterInstance) -> None:
    present = present_key()

    _, sink = run(instance, present, present)

    assert [each.mode for each in sink.run_configs] == ["live"]


@pytest.mark.parametrize(
    ("tags", "config"),
    [
        pytest.param(
            {
                "sequin_pipeline/sync_id": "sync-1",
                "sequin_pipeline/full_refresh": "true",
                "sequin_pipeline/adopt": "true",
            },
            None,
            id="tags",
        ),
        pytest.param({}, CollectionConfig(sync_id="sync-1", full_refresh=True, adopt=True), id="config"),
    ],
)
def test_options_come_as_tags_or_config_and_one_sync_is_a_backfill(
    instance: dg.DagsterInstance, tags: dict[str, str], config: CollectionConfig | None
) -> None:
    _, sink = run(instance, "2024-02", "2024-02", tags={**LIVE, **tags}, config=config)

    assert [(each.mode, each.sync_id, each.full_refresh, each.adopt) for each in sink.run_configs] == [
        ("backfill", "sync-1", True, True)
    ]


def test_a_run_of_one_sync_leaves_its_windows_as_they_were_and_tells_what_it_did(instance: dg.DagsterInstance) -> None:
    result, _ = run(instance, "2024-02", "2024-04", tags={"sequin_pipeline/sync_id": "sync-1"}, found=ONE_RECORD)

    assert result.success
    assert instance.get_materialized_partitions(KEY) == set()
    observed = [
        event.event_specific_data.asset_observation
        for event in result.all_events
        if event.is_asset_observation and event.asset_key == KEY
    ]
    counted = {"fetched": 1, "inserted": 1, "rejected": 0, "sync_id": "sync-1", "rows_gained": 1}
    of_run = {**counted, "pages": 1, "requests": 2, "bytes": 300, "wal_bytes": 400, "rate_limit_seconds": 0.5, "cursor": "Nw"}
    assert [observation.partition for observation in observed] == [None, "2024-03"]
    assert [
        {name: observation.metadata[name].value for name in of_run if name in observation.metadata} for observation in observed
    ] == [
        of_run,
        counted,
    ]


def test_a_run_of_one_shard_leaves_its_windows_as_they_were_until_all_are_loaded(instance: dg.DagsterInstance) -> None:
    tags = {**LIVE, "sequin_pipeline/shard": "2"}
    result, sink = run(instance, "2024-02", "2024-04", tags=tags, found=replace(ONE_RECORD, is_partial=True))

    assert result.success
    assert sink.run_configs[0].only_shard == 2
    assert instance.get_materialized_partitions(KEY) == set()
    (of_run, of_window) = (
        event.event_specific_data.asset_observation
        for event in result.all_events
        if event.is_asset_observation and event.asset_key == KEY
    )
    assert (of_run.partition, of_window.partition) == (None, "2024-03")
    assert [one.metadata["shard"].value for one in (of_run, of_window)] == ["2", "2"]

    run(instance, "2024-02", "2024-04", tags=tags, found=ONE_RECORD)

    assert instance.get_materialized_partitions(KEY) == {"2024-02", "2024-03", "2024-04"}


def test_a_tag_that_is_neither_true_nor_false_fails_the_run(instance: dg.DagsterInstance) -> None:
    result, sink = run(instance, "2024-02", "2024-02", tags={"sequin_pipeline/full_refresh": "yes"})

    assert failure_description(result) == "run tag sequin_pipeline/full_refresh is 'yes': expected 'true' or 'false'"
    assert sink.run_configs == []


@pytest.mark.parametrize(
    ("error", "description"),
    [
        pytest.param(ConfigurationError("the address is wrong"), "the address is wrong", id="ours"),
        pytest.param(KeyError("x"), "an error that the pipeline does not expect: KeyError: 'x'", id="a bug"),
    ],
)
def test_an_error_that_will_not_pass_fails_without_retry(
    instance: dg.DagsterInstance, error: Exception, description: str
) -> None:
    result, _ = run(instance, "2024-02", "2024-02", source=Opened(error))

    assert not result.success
    assert retries(result) == 0
    assert failure_description(result) == description


def test_an_error_that_may_pass_asks_for_a_retry(instance: dg.DagsterInstance) -> None:
    result, _ = run(instance, "2024-02", "2024-02", source=Opened(SourceUnavailable("it is down")))

    assert not result.success
    assert retries(result) == 1


@pytest.mark.parametrize(
    ("tags", "config", "accepted"),
    [
        pytest.param({}, None, None, id="nothing said"),
        pytest.param({"sequin_pipeline/accept_deletes": "250"}, None, 250, id="a tag"),
        pytest.param({}, CollectionConfig(accept_deletes=250), 250, id="run config"),
        pytest.param({"sequin_pipeline/accept_deletes": "9"}, CollectionConfig(accept_deletes=250), 250, id="both"),
    ],
)
def test_a_run_may_be_told_how_many_deletes_are_meant(
    instance: dg.DagsterInstance, tags: dict[str, str], config: CollectionConfig | None, accepted: int | None
) -> None:
    _, sink = run(instance, "2024-02", "2024-02", tags=tags, config=config)

    assert [one.accept_deletes for one in sink.run_configs] == [accepted]


@pytest.mark.parametrize("value", ["0", "-1", "many", "250 ", "²", ""])
def test_a_tag_that_accepts_no_number_of_deletes_is_refused(instance: dg.DagsterInstance, value: str) -> None:
    result, sink = run(instance, "2024-02", "2024-02", tags={"sequin_pipeline/accept_deletes": value})

    assert (result.success, sink.run_configs) == (False, [])
    expected = f"run tag sequin_pipeline/accept_deletes is {value!r}: expected a number of rows, 1 or more"
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data
    assert failure.user_failure_data.description == expected


def test_a_full_refresh_may_be_live(instance: dg.DagsterInstance) -> None:
    _, sink = run(instance, "2024-01", "2024-03", tags={**LIVE, "sequin_pipeline/full_refresh": "true"})

    assert [(each.mode, each.full_refresh) for each in sink.run_configs] == [("live", True)]


def test_the_step_yields_its_checks(instance: dg.DagsterInstance) -> None:
    result, _ = run(instance, "2024-02", "2024-02")

    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "conservation": True,
        "open_rejects": True,
        "required_columns": True,
        "drift": True,
    }


@pytest.mark.parametrize(
    ("found", "failed", "severity", "description"),
    [
        pytest.param(
            replace(GOOD, counts=Counts(fetched=3, inserted=1, rejected=1)),
            "conservation",
            dg.AssetCheckSeverity.ERROR,
            "3 fetched, 2 accounted for",
            id="a record is lost",
        ),
        pytest.param(
            replace(GOOD, open_rejects=2, reject_examples=(("r1", "quantity: '1.5' is not integral"),)),
            "open_rejects",
            dg.AssetCheckSeverity.ERROR,
            "2 open rejects (`r1`: quantity: '1.5' is not integral). `sequin-pipeline rejects list stripe/plan` shows all",
            id="rejects wait",
        ),
        pytest.param(
            replace(GOOD, required_missing={"status": 3, "plan_id": 0}),
            "required_columns",
            dg.AssetCheckSeverity.ERROR,
            "records of this run without a required value: status in 3",
            id="a required value is missing",
        ),
        pytest.param(
            replace(GOOD, drift=Drift(new=("$.trial",), changed={"$.amount": "string to number"})),
            "drift",
            dg.AssetCheckSeverity.WARN,
            "new: $.trial; changed: $.amount",
            id="fields differ",
        ),
    ],
)
def test_a_check_fails_alone_and_says_why(
    instance: dg.DagsterInstance, found: SyncOutcome, failed: str, severity: dg.AssetCheckSeverity, description: str
) -> None:
    result, _ = run(instance, "2024-02", "2024-02", found=found)

    red = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [(check.check_name, check.severity, check.description) for check in red] == [(failed, severity, description)]
    assert result.success


HELD = (
    HeldDeletes("acme", 7, rows=250, live_rows=1_000, examples=("cus_1", "cus_2")),
    HeldDeletes("beta", 8, rows=120, live_rows=150, examples=("cus_3",)),
)


def test_held_deletes_turn_a_check_red_with_what_to_look_at_and_what_to_run_and_the_run_is_green(
    instance: dg.DagsterInstance,
) -> None:
    listed = replace(COLLECTION, observes_time=True)

    result = dg.materialize(
        [build_asset(listed, retry_policy=AT_ONCE)],
        resources={SOURCE: Opened(), IO_MANAGER: Sink(replace(GOOD, held_deletes=HELD))},
        tags={"dagster/asset_partition_range_start": "2024-02", "dagster/asset_partition_range_end": "2024-02"},
        instance=instance,
    )

    (red,) = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (result.success, red.check_name, red.severity) == (True, "deletes_within_limit", dg.AssetCheckSeverity.ERROR)
    assert red.description == "\n".join(held.told("stripe/plan") for held in HELD)
    assert {name: value.value for name, value in red.metadata.items()} == {
        "held_deletes": 370,
        "by_sync": {
            "acme": {"rows": 250, "live_rows": 1_000, "limit": 100, "share": 0.25},
            "beta": {"rows": 120, "live_rows": 150, "limit": 100, "share": 0.8},
        },
        "examples": {"acme": ["cus_1", "cus_2"], "beta": ["cus_3"]},
        "command": "`sequin-pipeline sync --collection stripe/plan --accept-deletes 250`",
        "run_config": {"ops": {"stripe__plan": {"config": {"accept_deletes": 250}}}},
    }


def test_the_check_of_held_deletes_is_there_where_listings_are_and_green_without_any(instance: dg.DagsterInstance) -> None:
    listed = replace(COLLECTION, observes_time=True)

    result = dg.materialize(
        [build_asset(listed, retry_policy=AT_ONCE)],
        resources={SOURCE: Opened(), IO_MANAGER: Sink(GOOD)},
        tags={"dagster/asset_partition_range_start": "2024-02", "dagster/asset_partition_range_end": "2024-02"},
        instance=instance,
    )

    told = {check.check_name: (check.passed, check.description) for check in result.get_asset_check_evaluations()}
    assert told["deletes_within_limit"] == (True, "no deletes are held")
