"""Children that are kept together: what is passed on of them, and that none is left, however things end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sequin_pipeline.cli.supervisor import Supervisor, stop_requested
from sequin_pipeline.errors import ProcessEnded
from tests.support.waits import wait_until

PYTHON = sys.executable
WAITS = "import time; time.sleep(600)"
STARTS_ANOTHER = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAITS!r}])
print(child.pid, flush=True)
child.wait()
"""
PARENT = """
import os, sys
from pathlib import Path
from sequin_pipeline.cli.supervisor import Supervisor
with Supervisor(os.environ, Path.cwd(), report=lambda name, line: print(line, flush=True)) as children:
    children.start("child", [sys.executable, "-c", 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'])
    children.tend(until=lambda: False)
"""


@pytest.mark.processes
def test_lines_are_passed_on_with_the_childs_name_and_the_last_one_without_its_end(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    with Supervisor(os.environ, tmp_path, report=lambda name, line: heard.append((name, line))) as children:
        children.start("talker", [PYTHON, "-c", r"import sys; sys.stdout.write('one\n\ntwo\nthr'); sys.stdout.write('ee')"])
        with pytest.raises(ProcessEnded):
            children.tend(until=lambda: False)

    assert heard == [("talker", "one"), ("talker", "two"), ("talker", "three")]


@pytest.mark.processes
def test_a_child_that_ends_by_itself_is_named_with_its_status_and_its_last_words(tmp_path: Path) -> None:
    with Supervisor(os.environ, tmp_path, report=_ignore) as children:
        children.start("waiter", [PYTHON, "-c", WAITS])
        children.start("failer", [PYTHON, "-c", "raise SystemExit('no storage')"])

        with pytest.raises(ProcessEnded, match=r"the failer \(process \d+\) ended by itself with status 1, .*\n  no storage$"):
            children.tend(until=lambda: False)


@pytest.mark.processes
def test_a_child_is_ended_together_with_what_it_has_started(tmp_path: Path) -> None:
    heard: list[int] = []
    with Supervisor(os.environ, tmp_path, report=lambda name, line: heard.append(int(line))) as children:
        children.start("starter", [PYTHON, "-c", STARTS_ANOTHER])
        children.tend(until=lambda: bool(heard))

    assert not _is_alive(heard[0])


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children whose parent was killed")
def test_children_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([PYTHON, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())

        parent.kill()

    wait_until(lambda: not _is_alive(child), "the end of the child")


def test_a_request_to_stop_is_noted_and_ends_nothing() -> None:
    earlier = signal.getsignal(signal.SIGTERM)

    with stop_requested() as is_stopping:
        before = is_stopping()
        os.kill(os.getpid(), signal.SIGTERM)
        after = is_stopping()

    assert (before, after) == (False, True)
    assert signal.getsignal(signal.SIGTERM) == earlier


def _ignore(name: str, line: str) -> None: ...


def _is_alive(pid: int) -> bool:
    """A zombie that nobody has reaped yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
