"""A connector in a project of a user's: doctor, infer, sync, a run that is killed, one that is cancelled, and no secret anywhere."""

import json
import signal
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.e2e.project import THIS_MONTH, Command, MakeProject, Project, killed_at_the_end
from tests.e2e.test_cli_sync import dump
from tests.sources.connectors.child import CATALOG, SECRET, TAP_CATALOG, Step, thing, write_plan
from tests.support.waits import wait_until

FIRST = [thing("a", 1), thing("b", 2), thing("c", 3)]
SUCCEEDED: Step = ["say", {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}]
SECRETS = {name: {"airbyte_secret": True} for name in ("start", "token")}
SPEC: Step = ["say", {"type": "SPEC", "spec": {"connectionSpecification": {"properties": SECRETS}}}]
COMPLETE: Step = ["status", "thing", "COMPLETE"]


def declared(folder: Path, *steps: Step, kind: str = "airbyte", **plan: list[Step]) -> str:
    """The attributes of a provider whose collection reads the child's stream."""
    catalog = CATALOG if kind == "airbyte" else TAP_CATALOG
    connector = write_plan(folder, {"discover": [catalog], "read": list(steps), **plan}, kind=kind)
    return f"""\
  provider: demo
  source: {kind}
  windows: {{every: month, start: {THIS_MONTH}}}
  connector:
    command: {json.dumps(connector.command)}
    config: {{token: {{env: CHILD_TOKEN}}, start: "2026-01-01"}}
  collections:
    item: {{read: {{stream: thing}}, columns: {{amount: {{path: amount, type: bigint}}}}}}
"""


def made(make_project: MakeProject, folder: Path, *steps: Step, kind: str = "airbyte", **plan: list[Step]) -> Project:
    project = make_project("http://127.0.0.1:9").declare(demo=declared(folder, *steps, kind=kind, **plan))
    project.variables["CHILD_TOKEN"] = SECRET
    return project


@pytest.mark.parametrize("kind", ["airbyte", "singer"])
def test_doctor_infer_and_sync_of_a_connector(make_project: MakeProject, command: Command, tmp_path: Path, kind: str) -> None:
    project = made(make_project, tmp_path, ["records", "thing", *FIRST], COMPLETE, kind=kind, check=[SUCCEEDED], spec=[SPEC])

    doctor = command(project, "doctor")
    inferred = command(project, "infer", "demo/item")
    synced = command(project, "sync")

    assert synced.status == 0, synced.stderr
    assert project.query("select upstream_id, amount from demo.item order by 1") == [("a", 1), ("b", 1), ("c", 1)]
    assert (
        "demo/item is read from stream 'thing', whose records are told apart by id, and their versions by updated"
        in doctor.stdout
    )
    if kind == "airbyte":
        assert "reaches what it reads" in doctor.stdout
        assert "the connector calls start a secret, and it stands in the defs.yaml" in doctor.stdout
    assert "config: {token: {env: CHILD_TOKEN}, start: '2026-01-01'}" in inferred.stdout
    assert "      read: {stream: thing}\n" in inferred.stdout
    assert "        amount: {path: amount, type: bigint}" in inferred.stdout
    assert SECRET not in "".join((doctor.stdout, doctor.stderr, inferred.stdout, inferred.stderr, synced.stdout, synced.stderr))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            {
                "check": [
                    [
                        "say",
                        {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "FAILED", "message": f"401 for {SECRET}"}},
                    ]
                ]
            },
            "does not reach what it reads: 401 for ***",
        ),
        ({"check": [["kill", 11]]}, "ended by signal 11, and said nothing of an error"),
        (
            {"check": [SUCCEEDED], "spec": [SPEC], "discover": [["error", "config_error", "no such shop"], ["exit_with", 1]]},
            "refuses its configuration (ended with status 1): no such shop",
        ),
    ],
    ids=["check FAILED with status 0", "a check that dies", "a catalog that fails"],
)
def test_doctor_says_what_is_wrong_with_a_connector(
    make_project: MakeProject, command: Command, tmp_path: Path, plan: dict[str, list[Step]], said: str
) -> None:
    doctor = command(made(make_project, tmp_path, **plan), "doctor")

    assert doctor.status != 0
    assert said in doctor.stdout.replace("\n", " ")
    assert SECRET not in doctor.stdout + doctor.stderr


def is_running(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


@pytest.mark.processes
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "TERM"])
def test_run_that_ends_leaves_no_connector_even_one_that_ignores_term(
    make_project: MakeProject, command: Command, tmp_path: Path, sent: signal.Signals
) -> None:
    slow: list[Step] = [
        ["ignore_term"],
        ["records", "thing", FIRST[0]],
        ["state", "thing", {"version": "one"}, 1],
        ["records", "thing", FIRST[1]],
        ["tell", str(tmp_path / "told")],
        ["sleep", 600],
    ]
    project = made(make_project, tmp_path, *slow)
    with killed_at_the_end(project.start("sync")) as run:
        wait_until((tmp_path / "told").exists, "the connector")
        told = json.loads((tmp_path / "told").read_text())
        run.send_signal(sent)
        run.communicate()

    wait_until(lambda: not is_running(told["pid"]), "the connector's end")
    wait_until(lambda: not Path(told["folder"]).exists(), "the removal of its folder")
    if sent == signal.SIGKILL:
        write_plan(tmp_path, {"discover": [CATALOG], "read": [["records", "thing", *FIRST], COMPLETE]})
        again = command(project, "sync")
        assert again.status == 0, again.stderr
        assert project.query("select upstream_id, amount from demo.item order by 1") == [("a", 1), ("b", 1), ("c", 1)]


def test_secret_that_a_connector_says_in_every_way_reaches_no_output_no_log_and_no_database(
    make_project: MakeProject, command: Command, tmp_path: Path
) -> None:
    spoken: list[Step] = [
        ["stderr", f"connecting with {SECRET}"],
        ["raw", f"token={SECRET}\n"],
        ["say", {"type": "LOG", "log": {"level": "ERROR", "message": f"GET /x?token={quote(SECRET, safe='')}"}}],
        ["say", {"type": "CONTROL", "control": {"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": {"token": SECRET}}}}],
        ["records", "thing", *FIRST],
    ]
    wrong: list[Step] = [["error", "config_error", f"{SECRET} is wrong"], ["status", "thing", "INCOMPLETE"], ["exit_with", 1]]
    project = made(make_project, tmp_path, *spoken, COMPLETE)

    good = command(project, "sync")
    write_plan(tmp_path, {"discover": [CATALOG], "read": [*spoken, *wrong]})
    refused = command(project, "sync")

    said = "".join((good.stdout, good.stderr, refused.stdout, refused.stderr))
    assert (good.status, refused.status) == (0, 1)
    assert "*** is wrong" in refused.stderr
    said += dump(project.warehouse_url) + dump(project.dagster_url)
    said += "".join(file.read_text(errors="replace") for file in project.folder.rglob("*") if file.is_file())
    assert "wrote a line that is no message: 'token=***'" in said
    for spelling in (SECRET, quote(SECRET, safe=""), json.dumps(SECRET)[1:-1]):
        assert spelling not in said
