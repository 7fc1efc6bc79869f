"""These sensors post a message to a webhook for every run that failed, left records of a queue that belong to no table, or holds deletes.

They are off until SEQUIN_ALERT_WEBHOOK_URL says where to post.

The message is JSON with a `text` that chat programs show as it is. A webhook that does not take it is logged and given up: alerting
must not stop Dagster's daemon. Its URL counts as a secret, since those of chat programs are.
"""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import dagster as dg
import httpx2
import psycopg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.environment.settings import WAREHOUSE_URL
from sequin_pipeline.errors import ConfigurationError, PipelineError
from sequin_pipeline.ledger.held_deletes import HeldDeletes, held_by_run
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.undeclared import undeclared_of_run
from sequin_pipeline.orchestration.assets import asset_key
from sequin_pipeline.orchestration.command_runs import belongs_to_command
from sequin_pipeline.orchestration.resources import WarehouseResource
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, explain
from sequin_pipeline.sources.http.proxies import refuse_unusable_proxies

WEBHOOK_VARIABLE = "SEQUIN_ALERT_WEBHOOK_URL"
UI_VARIABLE = "SEQUIN_UI_URL"
DEFAULT_UI_URL = "http://127.0.0.1:3000"

WAITS_SECONDS = (1.0, 3.0)
"""The sensor waits this long between attempts; the daemon's other sensors wait meanwhile."""
TIMEOUT_SECONDS = 5.0
MAX_MESSAGE_CHARACTERS = 2_000

NOTHING_HELD: Mapping[str, Sequence[HeldDeletes]] = MappingProxyType({})

Found = TypeVar("Found")

_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s@]*@")
"""This finds passwords in URLs that somebody else's error may quote."""


@dataclass(frozen=True)
class Failure:
    """This value says why one step, or the run itself, failed; `collection` is a label, or the step's name where it has none."""

    collection: str | None
    error: str
    message: str


def build_alert_sensors(collections: Sequence[Collection]) -> list[dg.SensorDefinition]:
    """Builds the sensors, which run by themselves and do nothing without the variable: setting it is all there is to switch on.

    The others are there only where a queue is read, or everything is listed, and only there the warehouse is needed.
    """
    on_failure = dg.run_failure_sensor(
        name="alert_on_run_failure",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Posts a message about each failed run to the URL in {WEBHOOK_VARIABLE}.",
    )

    def alert(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        return send_alert(context, collections, os.environ)

    # Dagster finds the resource by the parameter's name.
    def alert_of_queues(context: dg.RunFailureSensorContext, sequin_warehouse: WarehouseResource) -> dg.SkipReason | None:
        return send_alert(context, collections, _environment(sequin_warehouse))

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="alert_on_undeclared_records",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Posts a message about each run that left records of no declared collection to the URL in {WEBHOOK_VARIABLE}.",
    )
    def alert_on_undeclared(context: dg.RunStatusSensorContext, sequin_warehouse: WarehouseResource) -> dg.SkipReason | None:
        return send_undeclared_alert(context, _environment(sequin_warehouse))

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="alert_on_held_deletes",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Posts a message about each run whose listing lacked too many rows to the URL in {WEBHOOK_VARIABLE}.",
    )
    def alert_on_held(context: dg.RunStatusSensorContext, sequin_warehouse: WarehouseResource) -> dg.SkipReason | None:
        return send_held_alert(context, _environment(sequin_warehouse))

    sensors = [on_failure(alert_of_queues), alert_on_undeclared] if _has_queue(collections) else [on_failure(alert)]
    return [*sensors, alert_on_held] if any(collection.is_listed for collection in collections) else sensors


def send_alert(
    context: dg.RunFailureSensorContext,
    collections: Sequence[Collection],
    environment: Mapping[str, str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> dg.SkipReason | None:
    """Posts one message about the run of `context`; says why when it did not."""
    url = environment.get(WEBHOOK_VARIABLE)
    if not url:
        return dg.SkipReason(f"{WEBHOOK_VARIABLE} is not set")
    if belongs_to_command(context.dagster_run):
        return dg.SkipReason("a command executed the run, and tells whoever typed it")
    undeclared = _undeclared(context, environment) if _has_queue(collections) else {}
    message = alert_message(context.dagster_run, _failures(context, collections), undeclared, environment)
    return _sent(context, url, message, sleep=sleep)


def _undeclared(context: dg.RunFailureSensorContext, environment: Mapping[str, str]) -> Mapping[str, int]:
    """Counts the records of no declared collection, for a message that is sent without them rather than not at all."""
    try:
        return count_undeclared(context.dagster_run.run_id, environment)
    except PipelineError as error:
        # What keeps the ledger from being read may be what the run failed of.
        context.log.warning(f"records of no declared collection could not be counted: {error}")
        return {}


def send_undeclared_alert(
    context: dg.RunStatusSensorContext, environment: Mapping[str, str], *, sleep: Callable[[float], None] = time.sleep
) -> dg.SkipReason | None:
    """Posts one message where the run of `context` kept records of no declared collection; says why when it did not."""
    url = environment.get(WEBHOOK_VARIABLE)
    if not url:
        return dg.SkipReason(f"{WEBHOOK_VARIABLE} is not set")
    if belongs_to_command(context.dagster_run):
        return dg.SkipReason("a command executed the run, and tells whoever typed it")
    try:
        undeclared = count_undeclared(context.dagster_run.run_id, environment)
    except PipelineError as error:
        return dg.SkipReason(f"records of no declared collection could not be counted: {_shown(str(error))}")
    if not undeclared:
        return dg.SkipReason("every record of the run belongs to a declared collection")
    return _sent(context, url, alert_message(context.dagster_run, [], undeclared, environment), sleep=sleep)


def send_held_alert(
    context: dg.RunStatusSensorContext, environment: Mapping[str, str], *, sleep: Callable[[float], None] = time.sleep
) -> dg.SkipReason | None:
    """Posts one message where a listing of the run of `context` found more deletes than its limit; says why when it did not."""
    url = environment.get(WEBHOOK_VARIABLE)
    if not url:
        return dg.SkipReason(f"{WEBHOOK_VARIABLE} is not set")
    if belongs_to_command(context.dagster_run):
        return dg.SkipReason("a command executed the run, and tells whoever typed it")
    run = context.dagster_run
    try:
        held = _asked(environment, partial(held_by_run, run_id=run.run_id), "looking for held deletes")
    except PipelineError as error:
        return dg.SkipReason(f"held deletes could not be looked for: {_shown(str(error))}")
    if not held:
        return dg.SkipReason("no listing of the run found more deletes than its limit")
    return _sent(context, url, alert_message(run, [], {}, environment, held=held), sleep=sleep)


def count_undeclared(run_id: str, environment: Mapping[str, str]) -> dict[str, int]:
    """Counts, by label, the records that the run kept because they belong to no table; raises PipelineError."""
    return _asked(environment, partial(undeclared_of_run, run_id=run_id), "counting records of no declared collection")


def _asked(environment: Mapping[str, str], work: Callable[[Connection], Found], doing: str) -> Found:
    """Asks the ledger once: whoever is alerted next waits."""
    url = environment.get(WAREHOUSE_URL)
    if not url:
        raise ConfigurationError(f"{WAREHOUSE_URL} is not set")
    try:
        with Warehouse(url).connect() as connection:
            migrate(connection)
            return work(connection)
    except psycopg.Error as error:
        raise explain(error, doing) from error


def alert_message(
    run: dg.DagsterRun,
    failures: Sequence[Failure],
    undeclared: Mapping[str, int],
    environment: Mapping[str, str],
    *,
    held: Mapping[str, Sequence[HeldDeletes]] = NOTHING_HELD,
) -> dict[str, object]:
    """Returns the message that is posted; without `failures` the run succeeded."""
    run_url = f"{environment.get(UI_VARIABLE, DEFAULT_UI_URL).rstrip('/')}/runs/{run.run_id}"
    lines = [f"{failure.collection or 'the run'}: {failure.error}: {failure.message}" for failure in failures]
    lines += [
        f"{label}: {count} record{'' if count == 1 else 's'} kept as rejects, since no defs.yaml declares the collection"
        for label, count in undeclared.items()
    ]
    lines += [one.told(label) for label, of_label in held.items() for one in of_label]
    left = "holds deletes until somebody has looked at them" if held else "left records that belong to no table"
    ended = "failed" if failures else f"succeeded, and {left}"
    return {
        "text": "\n".join([f"Run of {run.job_name} {ended}: {run_url}", *lines]),
        "job": run.job_name,
        "run_id": run.run_id,
        "run_url": run_url,
        "failures": [asdict(failure) for failure in failures],
        "undeclared": dict(undeclared),
        "held_deletes": {label: sum(one.rows for one in of_label) for label, of_label in held.items()},
    }


def _environment(warehouse: WarehouseResource) -> Mapping[str, str]:
    """Returns the environment as if it named the project's own warehouse, where the project has one."""
    return os.environ if warehouse.url is None else {**os.environ, WAREHOUSE_URL: warehouse.url}


def _has_queue(collections: Sequence[Collection]) -> bool:
    return any(collection.is_queued for collection in collections)


def _sent(
    context: dg.RunStatusSensorContext, url: str, message: Mapping[str, object], *, sleep: Callable[[float], None]
) -> dg.SkipReason | None:
    refusal = _post(url, message, sleep=sleep)
    if refusal is None:
        return None
    run_id = context.dagster_run.run_id
    context.log.error(f"the webhook in {WEBHOOK_VARIABLE} did not accept the message about run {run_id}: {refusal}")
    return dg.SkipReason(f"the webhook in {WEBHOOK_VARIABLE} did not accept the message: {refusal}")


def _failures(context: dg.RunFailureSensorContext, collections: Sequence[Collection]) -> list[Failure]:
    labels = {asset_key(collection).to_python_identifier(): collection.label for collection in collections}
    failures = []
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        told = data.user_failure_data
        if told is not None and "error" in told.metadata:
            error, message = str(told.metadata["error"].value), told.description or ""
        else:
            error, message = _innermost(data.error)
        failures.append(Failure(labels.get(event.step_key or "", event.step_key), error, _shown(message)))
    if failures:
        return failures
    error, message = _innermost(context.failure_event.job_failure_data.error)
    return [Failure(None, error, _shown(message or context.failure_event.message or ""))]


def _innermost(info: object) -> tuple[str, str]:
    """Returns class and message of what was raised first.

    Dagster's own class for it is not public, so it is asked for its fields.
    """
    while getattr(info, "cause", None) is not None:
        info = getattr(info, "cause", None)
    name = getattr(info, "cls_name", None) or "RunFailure"
    return name, str(getattr(info, "message", "")).strip().removeprefix(f"{name}: ")


def _shown(message: str) -> str:
    masked = _PASSWORD.sub(r"\1:***@", message)
    return masked if len(masked) <= MAX_MESSAGE_CHARACTERS else f"{masked[:MAX_MESSAGE_CHARACTERS]} …"


def _post(url: str, message: Mapping[str, object], *, sleep: Callable[[float], None]) -> str | None:
    """Posts the message; returns None when the webhook took it, else what went wrong at the last attempt, without the URL."""
    try:
        refuse_unusable_proxies()
    except ConfigurationError as error:
        return str(error)
    refusal = ""
    for wait_seconds in (*WAITS_SECONDS, None):
        try:
            answer = httpx2.post(url, json=message, timeout=TIMEOUT_SECONDS)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            refusal = type(error).__name__
        else:
            if answer.is_success:
                return None
            refusal = f"status {answer.status_code}"
            if answer.status_code < 500 and answer.status_code != 429:
                return refusal
        if wait_seconds is not None:
            sleep(wait_seconds)
    return refusal
