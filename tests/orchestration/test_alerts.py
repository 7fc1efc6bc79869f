"""Alerts: one message for each run that failed or left records without a table, posted to a real server; a webhook that fails does no
harm."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, Queue, SourceDeclaration
from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.orchestration.alerts import build_alert_sensors, send_alert, send_held_alert, send_undeclared_alert
from sequin_pipeline.orchestration.dagster_errors import failing
from sequin_pipeline.orchestration.resources import WarehouseResource
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.queue_run import drain
from sequin_pipeline.sources import Listed, Page, ReadRequest
from tests.support.builders import ListSource, collection, live_run_config, page_of, record
from tests.support.queues import ListQueue, other

THING = collection()
QUEUED = replace(THING, source=SourceDeclaration("sequin_consumer", queue=Queue("c1")))


@dataclass
class Webhook:
    """Answers with `statuses` in turn, then with 200; `messages` are the bodies it got."""

    url: str
    statuses: list[int] = field(default_factory=list)
    messages: list[dict[str, object]] = field(default_factory=list)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.messages.append(json.loads(body))
            self.send_response(received.statuses.pop(0) if received.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
            """A test's output is not the place."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Webhook(f"http://127.0.0.1:{server.server_address[1]}/hook?token=s3cret")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield received
        server.shutdown()
        thread.join()


@dg.op
def demo__thing() -> None:
    with failing():
        raise SourceRefused("the records API refused the token: set SEQUIN_API_TOKEN")


@dg.op
def follower() -> None:
    raise ValueError("no such host: postgresql://ann:hunter2@db/warehouse")


@dg.job(name="sync_demo")
def broken_job() -> None:
    demo__thing()
    follower()


@dataclass(frozen=True)
class Alerted:
    run_id: str
    skipped: str | None


@dg.job(name="sync_demo")
def sound_job() -> None:
    pass


def alert(
    environment: dict[str, str],
    waits: list[float] | None = None,
    *,
    of: Collection = THING,
    meanwhile: Callable[[str], None] = lambda run_id: None,
    tags: dict[str, str] | None = None,
) -> Alerted:
    """What the sensor does about a run that failed; `meanwhile` is what the run did."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = broken_job.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
        meanwhile(result.run_id)
        context = dg.build_run_status_sensor_context(
            sensor_name="alert_on_run_failure",
            dagster_event=result.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        ).for_run_failure()
        reason = send_alert(context, [of], environment, sleep=(waits if waits is not None else []).append)
    return Alerted(result.run_id, reason.skip_message if reason else None)


def alert_on_undeclared(
    environment: dict[str, str],
    meanwhile: Callable[[str], None] = lambda run_id: None,
    *,
    sends: Callable[..., dg.SkipReason | None] = send_undeclared_alert,
) -> Alerted:
    """What the sensor does about a run that succeeded."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = sound_job.execute_in_process(instance=instance)
        meanwhile(result.run_id)
        context = dg.build_run_status_sensor_context(
            sensor_name="alert_on_undeclared_records",
            dagster_event=result.get_run_success_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        )
        reason = sends(context, environment, sleep=lambda seconds: None)
    return Alerted(result.run_id, reason.skip_message if reason else None)


def drained(url: str, *, extra: bool = True) -> Callable[[str], None]:
    """A run of a queue that delivers a record of the declared collection, and three of others if `extra`."""
    others = [other("b"), other("c"), record("n", collection_id=None)] if extra else []

    def run(run_id: str) -> None:
        drain(ListQueue([[record("a"), *others]]), [THING], Warehouse(url), run_id=run_id)

    return run


LISTED = replace(THING, observes_time=True)


@dataclass
class Listing(ListSource):
    """Lists these records and no others, at this version."""

    version: int = 10

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        (records,) = self.page_records
        yield replace(page_of(records, "1"), listed=Listed("s1", self.version, tuple(str(one["id"]) for one in records)))
        yield replace(page_of([], "2"), listed=Listed("s1", self.version, is_complete=True))


def listed(url: str, count: int, *, version: int) -> Callable[[str], None]:
    def run(run_id: str) -> None:
        source = Listing([[record(f"r{number:03}", version) for number in range(count)]], version=version)
        run_sync(RecordStream(live_run_config(LISTED), source), Warehouse(url), run_id=run_id)

    return run


@pytest.mark.parametrize(
    ("left", "messages"), [(20, 0), (19, 1), (0, 1)], ids=["at the limit", "one more than the limit", "all of them"]
)
def test_a_run_whose_listing_lacks_too_many_rows_is_one_message_and_those_after_it_none(
    webhook: Webhook, warehouse_url: str, left: int, messages: int
) -> None:
    environment = {"SEQUIN_ALERT_WEBHOOK_URL": webhook.url, "WAREHOUSE_URL": warehouse_url}
    listed(warehouse_url, 120, version=10)("an earlier run")

    alerted = alert_on_undeclared(environment, listed(warehouse_url, left, version=20), sends=send_held_alert)
    later = alert_on_undeclared(environment, changed(warehouse_url), sends=send_held_alert)

    run_url = f"http://127.0.0.1:3000/runs/{alerted.run_id}"
    nothing = "no listing of the run found more deletes than its limit"
    assert (alerted.skipped, later.skipped) == (None if messages else nothing, nothing)
    assert [message["held_deletes"] for message in webhook.messages] == [{"demo/thing": 120 - left}] * messages
    for message in webhook.messages:
        head, told = str(message["text"]).splitlines()
        assert head == f"Run of sync_demo succeeded, and holds deletes until somebody has looked at them: {run_url}"
        assert told.endswith(f"`sequin-pipeline sync --collection demo/thing --accept-deletes {120 - left}`")


def changed(url: str) -> Callable[[str], None]:
    def run(run_id: str) -> None:
        run_sync(RecordStream(live_run_config(LISTED), ListSource([[], [], []])), Warehouse(url), run_id=run_id)

    return run


def test_a_failed_run_is_one_message_with_its_collections_and_a_link(webhook: Webhook) -> None:
    alerted = alert({"SEQUIN_ALERT_WEBHOOK_URL": webhook.url, "SEQUIN_UI_URL": "https://dagster.example.com/"})

    run_url = f"https://dagster.example.com/runs/{alerted.run_id}"
    token = "the records API refused the token: set SEQUIN_API_TOKEN"
    host = "no such host: postgresql://ann:***@db/warehouse"
    assert alerted.skipped is None
    assert webhook.messages == [
        {
            "text": f"Run of sync_demo failed: {run_url}\ndemo/thing: SourceRefused: {token}\nfollower: ValueError: {host}",
            "job": "sync_demo",
            "run_id": alerted.run_id,
            "run_url": run_url,
            "failures": [
                {"collection": "demo/thing", "error": "SourceRefused", "message": token},
                {"collection": "follower", "error": "ValueError", "message": host},
            ],
            "undeclared": {},
            "held_deletes": {},
        }
    ]


def test_a_run_of_a_command_is_no_message_since_the_command_tells(webhook: Webhook) -> None:
    alerted = alert({"SEQUIN_ALERT_WEBHOOK_URL": webhook.url}, tags={".dagster/sequin_pipeline_lock": "command.lock"})

    assert (alerted.skipped, webhook.messages) == ("a command executed the run, and tells whoever typed it", [])


LEFT = (
    "/unnamed: 1 record kept as rejects, since no defs.yaml declares the collection\n"
    "demo/other: 2 records kept as rejects, since no defs.yaml declares the collection"
)


def test_a_run_that_left_records_of_no_declared_collection_is_one_message_with_their_counts(
    webhook: Webhook, warehouse_url: str
) -> None:
    environment = {"SEQUIN_ALERT_WEBHOOK_URL": webhook.url, "WAREHOUSE_URL": warehouse_url}

    alerted = alert_on_undeclared(environment, drained(warehouse_url))

    run_url = f"http://127.0.0.1:3000/runs/{alerted.run_id}"
    assert alerted.skipped is None
    assert webhook.messages == [
        {
            "text": f"Run of sync_demo succeeded, and left records that belong to no table: {run_url}\n{LEFT}",
            "job": "sync_demo",
            "run_id": alerted.run_id,
            "run_url": run_url,
            "failures": [],
            "undeclared": {"/unnamed": 1, "demo/other": 2},
            "held_deletes": {},
        }
    ]


def test_a_failed_run_tells_of_the_records_of_no_declared_collection_too(webhook: Webhook, warehouse_url: str) -> None:
    environment = {"SEQUIN_ALERT_WEBHOOK_URL": webhook.url, "WAREHOUSE_URL": warehouse_url}

    alert(environment, of=QUEUED, meanwhile=drained(warehouse_url))

    (message,) = webhook.messages
    assert str(message["text"]).endswith(f"\n{LEFT}")
    assert message["undeclared"] == {"/unnamed": 1, "demo/other": 2}


def test_a_run_whose_records_all_have_a_table_is_no_message(webhook: Webhook, warehouse_url: str) -> None:
    environment = {"SEQUIN_ALERT_WEBHOOK_URL": webhook.url, "WAREHOUSE_URL": warehouse_url}
    drained(warehouse_url)("an earlier run")

    alerted = alert_on_undeclared(environment, drained(warehouse_url, extra=False))

    assert (alerted.skipped, webhook.messages) == ("every record of the run belongs to a declared collection", [])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param({}, "WAREHOUSE_URL is not set", id="no address"),
        pytest.param(
            {"WAREHOUSE_URL": "postgresql://ann:hunter2@127.0.0.1:1/w"}, "while connecting to ann@127.0.0.1:1/w", id="away"
        ),
    ],
)
def test_a_ledger_that_cannot_be_read_keeps_no_failure_from_being_told(webhook: Webhook, url: dict[str, str], said: str) -> None:
    environment = {"SEQUIN_ALERT_WEBHOOK_URL": webhook.url, **url}

    failed, succeeded = alert(environment, of=QUEUED), alert_on_undeclared(environment)

    assert (failed.skipped, [message["run_id"] for message in webhook.messages]) == (None, [failed.run_id])
    assert str(succeeded.skipped).startswith(f"records of no declared collection could not be counted: {said}")
    assert "hunter2" not in str(succeeded.skipped)


def test_a_webhook_that_fails_for_a_moment_is_asked_again(webhook: Webhook) -> None:
    webhook.statuses = [503, 429]
    waits: list[float] = []

    alerted = alert({"SEQUIN_ALERT_WEBHOOK_URL": webhook.url}, waits)

    assert alerted.skipped is None
    assert waits == [1.0, 3.0]
    assert [message["run_url"] for message in webhook.messages] == [f"http://127.0.0.1:3000/runs/{alerted.run_id}"] * 3


@pytest.mark.parametrize(
    ("statuses", "attempts", "refusal"),
    [pytest.param([404], 1, "status 404", id="wrong address"), pytest.param([500] * 3, 3, "status 500", id="out of order")],
)
def test_a_webhook_that_does_not_take_it_is_given_up_without_an_error(
    webhook: Webhook, statuses: list[int], attempts: int, refusal: str
) -> None:
    webhook.statuses = statuses

    alerted = alert({"SEQUIN_ALERT_WEBHOOK_URL": webhook.url})

    assert alerted.skipped == f"the webhook in SEQUIN_ALERT_WEBHOOK_URL did not accept the message: {refusal}"
    assert len(webhook.messages) == attempts


def test_a_webhook_that_is_not_there_is_told_without_its_url() -> None:
    alerted = alert({"SEQUIN_ALERT_WEBHOOK_URL": "http://127.0.0.1:1/hook?token=s3cret"})

    assert alerted.skipped == "the webhook in SEQUIN_ALERT_WEBHOOK_URL did not accept the message: ConnectError"


def test_without_a_webhook_nothing_is_sent() -> None:
    held = alert_on_undeclared({}, sends=send_held_alert)
    assert alert({}).skipped == alert_on_undeclared({}).skipped == held.skipped == "SEQUIN_ALERT_WEBHOOK_URL is not set"


def test_the_sensors_run_by_themselves_and_the_second_is_there_for_queues_only() -> None:
    running = dg.DefaultSensorStatus.RUNNING

    alone, both = build_alert_sensors([THING]), build_alert_sensors([THING, QUEUED])

    assert {sensor.name: sensor.default_status for sensor in alone} == {"alert_on_run_failure": running}
    assert {sensor.name: sensor.default_status for sensor in both} == {
        "alert_on_run_failure": running,
        "alert_on_undeclared_records": running,
    }
    assert [sensor.name for sensor in build_alert_sensors([THING, LISTED])] == ["alert_on_run_failure", "alert_on_held_deletes"]


@pytest.mark.parametrize(("position", "job"), [(0, broken_job), (1, sound_job)], ids=["a failed run", "a run that succeeded"])
def test_the_ledger_is_that_of_the_projects_own_warehouse(
    webhook: Webhook, warehouse_url: str, monkeypatch: pytest.MonkeyPatch, position: int, job: dg.JobDefinition
) -> None:
    monkeypatch.setenv("SEQUIN_ALERT_WEBHOOK_URL", webhook.url)
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    sensor = build_alert_sensors([QUEUED])[position]

    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        drained(warehouse_url)(result.run_id)
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_event=result.get_run_success_event() if result.success else result.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        )
        sensor(context if result.success else context.for_run_failure(), sequin_warehouse=WarehouseResource(url=warehouse_url))

    assert [message["undeclared"] for message in webhook.messages] == [{"/unnamed": 1, "demo/other": 2}]
