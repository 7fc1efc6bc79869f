"""A first load by shard, through the command: each shard has a process, and one that is killed holds up nobody."""

import json
import os
import signal
from pathlib import Path

from bench.processes import tree
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import (
    COMMAND_SECONDS,
    THIS_MONTH,
    TOKEN,
    Command,
    MakeProject,
    Project,
    SandboxControls,
    killed_at_the_end,
)
from tests.support.builders import record
from tests.support.waits import wait_until

DIVIDED = f"""\
  provider: demo
  windows: {{every: month, start: {THIS_MONTH}}}
  collections: {{thing: {{shards: 2}}}}
"""
SYNCS = ("a", "b", "c")
RECORDS = [
    json.dumps(record(f"{SYNCS[number % 3]}{number:02}", number + 1, sync={"id": SYNCS[number % 3]})).encode()
    for number in range(36)
]


def processes_of_shards(pid: int) -> list[int]:
    """Those that a process which the command keeps for it has forked."""
    return [
        child
        for child in tree(pid)
        if pid not in (child, int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]))
    ]


def stored(project: Project, sync_id: str) -> int:
    [(count,)] = project.query("select count(*) from demo.thing where sync_id = %s", sync_id)
    return int(str(count))


def shards_left(project: Project, command: Command) -> list[int]:
    (told,) = json.loads(command(project, "status", "--json").stdout)["collections"]
    left: list[int] = told["shards_left"]
    return left


def test_a_shard_whose_process_is_killed_is_left_to_the_next_sync(make_project: MakeProject, command: Command) -> None:
    with running_sandbox(RecordedFeed(RECORDS), Settings(token=TOKEN, limit_cap=1, delay_ms=250)) as url:
        project = make_project(url).declare(demo=DIVIDED)

        with killed_at_the_end(project.start("sync")) as process:
            wait_until(lambda: SandboxControls(url).arrived() > len(SYNCS), "a shard at work")
            os.kill(processes_of_shards(process.pid)[0], signal.SIGKILL)
            process.communicate(timeout=COMMAND_SECONDS)

        assert process.returncode == 1
        left = shards_left(project, command)
        assert left in ([1], [2])
        complete, incomplete = ("b", "ac") if left == [1] else ("ac", "b")
        assert [stored(project, sync_id) for sync_id in complete] == [12] * len(complete)
        assert sum(stored(project, sync_id) for sync_id in incomplete) < 12 * len(incomplete)
        said = f"\nThe first load of demo/thing is under way, by shards of which number {left[0]} is left\n"
        assert said in command(project, "status").stdout

        assert command(project, "sync").status == 0

    assert [stored(project, sync_id) for sync_id in SYNCS] == [12, 12, 12]
    assert shards_left(project, command) == []
