"""What the checks of a table say after a run that failed at its source: what they said before, whatever that was."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, Queue, SourceDeclaration, TableName, Windows
from sequin_pipeline.errors import SourceError, SourceFault, SourceRefused, SourceUnavailable, TableRefused, TooManyRejects
from sequin_pipeline.orchestration.assets import build_asset
from sequin_pipeline.orchestration.queue_asset import build_queue_asset
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE
from tests.orchestration.test_step import GOOD, Opened

KEY = dg.AssetKey(["stripe", "plan"])
PLAN = Collection("stripe", "plan", TableName("stripe", "plan"), Windows("month", datetime(2024, 1, 1, tzinfo=UTC)))
AT_ONCE = dg.RetryPolicy(max_retries=1, delay=0)
WINDOW = {"dagster/asset_partition_range_start": "2024-01", "dagster/asset_partition_range_end": "2024-01"}
OWN = ("conservation", "drift", "open_rejects", "required_columns")
ALL = (*OWN, "table_row_count")
SUCCEEDED, FAILED, PLANNED = "SUCCEEDED", "FAILED", "PLANNED"
ONE_REJECT = replace(GOOD, open_rejects=1, reject_examples=(("p1", "column 'amount' found null"),))
ONE_WAITS = dict.fromkeys(ALL, SUCCEEDED) | {"open_rejects": FAILED}


@dataclass
class Endings(dg.IOManager):
    """Ends each run with the next of the outcomes, or with an error as long as there is no other."""

    outcomes: list[object] = field(default_factory=list)

    def sync(self, stream: object, **rest: object) -> object:
        ending = self.outcomes[0] if len(self.outcomes) == 1 else self.outcomes.pop(0)
        if isinstance(ending, Exception):
            raise ending
        return ending

    def drain(self, *arguments: object, **rest: object) -> object:
        return self.sync(None)

    def waiting(self, collection: Collection) -> None:
        """There is no ledger that could be read."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Nothing comes here."""

    def load_input(self, context: dg.InputContext) -> object:
        raise NotImplementedError


@dg.asset_check(asset=KEY, name="table_row_count")
def table_row_count() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, description="7 rows")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(instance: dg.DagsterInstance, *outcomes: object) -> dg.ExecuteInProcessResult:
    """As a materialization that somebody launches by hand: with every check of the asset."""
    return dg.materialize(
        [build_asset(PLAN, retry_policy=AT_ONCE), table_row_count],
        resources={SOURCE: Opened(), IO_MANAGER: Endings(list(outcomes))},
        tags=WINDOW,
        instance=instance,
        raise_on_error=False,
    )


def told(instance: dg.DagsterInstance, key: dg.AssetKey = KEY) -> dict[str, tuple[str, str | None]]:
    """By name what Dagster shows of each check: how it stands, and its sentence."""
    found = {}
    for name in ALL:
        for record in instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(key, name), limit=1):
            evaluation = record.evaluation
            is_told = isinstance(evaluation, dg.AssetCheckEvaluation)
            found[name] = (record.status.value, evaluation.description if is_told else None)
    return found


def statuses(instance: dg.DagsterInstance, key: dg.AssetKey = KEY) -> dict[str, str]:
    return {name: status for name, (status, _) in told(instance, key).items()}


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(SourceUnavailable("nobody answers"), id="unavailable, tried again"),
        pytest.param(SourceRefused("the token is refused"), id="refused"),
        pytest.param(SourceFault("the cursor loops"), id="at fault"),
    ],
)
@pytest.mark.parametrize(
    ("outcome", "before"),
    [
        pytest.param(GOOD, dict.fromkeys(ALL, SUCCEEDED), id="green before"),
        pytest.param(ONE_REJECT, ONE_WAITS, id="red before"),
    ],
)
def test_a_run_that_fails_at_its_source_leaves_every_check_as_it_stood(
    instance: dg.DagsterInstance, error: SourceError, outcome: object, before: dict[str, str]
) -> None:
    run(instance, outcome)
    said = told(instance)

    result = run(instance, error)
    again = run(instance, error)

    assert (result.success, again.success) == (False, False)
    assert statuses(instance) == before
    note = " (before: a run failed at its source)"
    assert told(instance) == {name: (status, f"{sentence}{note}") for name, (status, sentence) in said.items()}


def test_a_check_that_was_never_evaluated_warns_after_a_run_that_failed_at_its_source(instance: dg.DagsterInstance) -> None:
    result = run(instance, SourceUnavailable("nobody answers"))

    assert not result.success
    assert told(instance) == dict.fromkeys(ALL, (FAILED, "not evaluated yet: the run failed at its source"))
    severities = {check.severity for check in result.get_asset_check_evaluations()}
    assert severities == {dg.AssetCheckSeverity.WARN}


def test_a_run_that_succeeds_after_a_failed_one_tells_its_own_results(instance: dg.DagsterInstance) -> None:
    run(instance, ONE_REJECT)
    run(instance, SourceUnavailable("nobody answers"))

    result = run(instance, SourceUnavailable("not yet"), GOOD)

    assert result.success
    assert statuses(instance) == dict.fromkeys(ALL, SUCCEEDED)
    assert [sentence for _, sentence in told(instance).values() if sentence and "before" in sentence] == []


def test_a_run_that_fails_at_its_table_leaves_its_checks_without_a_result(instance: dg.DagsterInstance) -> None:
    run(instance, GOOD)

    run(instance, TableRefused("column amount is text"))

    assert statuses(instance) == dict.fromkeys(ALL, PLANNED)


def test_a_check_that_a_run_left_red_is_not_shown_green_by_a_failing_source(instance: dg.DagsterInstance) -> None:
    run(instance, GOOD)
    run(instance, TooManyRejects("200 of 300 records were rejected"))

    run(instance, SourceUnavailable("nobody answers"))

    assert told(instance) == dict.fromkeys(ALL, (FAILED, "not evaluated yet: the run failed at its source"))


def test_a_queue_that_fails_leaves_the_checks_of_all_its_tables_as_they_stood(instance: dg.DagsterInstance) -> None:
    queue = SourceDeclaration("sequin_consumer", queue=Queue("c1"))
    collections = [
        Collection("stripe", name, TableName("stripe", name), PLAN.windows, source=queue) for name in ("plan", "price")
    ]
    deliveries = build_queue_asset(collections, retry_policy=AT_ONCE)

    result = dg.materialize(
        [deliveries],
        resources={SOURCE: Opened(), IO_MANAGER: Endings([SourceUnavailable("nobody answers")])},
        instance=instance,
        raise_on_error=False,
    )

    assert not result.success
    for name in ("plan", "price"):
        assert statuses(instance, dg.AssetKey(["stripe", name])) == dict.fromkeys(OWN, FAILED)
    assert {check.severity for check in result.get_asset_check_evaluations()} == {dg.AssetCheckSeverity.WARN}
