"""A process of the UI dies that all tests of this folder share: it comes last, and spares another start of 20 CPU seconds."""

import os
import signal

import httpx2
import pytest

from tests.ui.running import END_SECONDS, RunningUi, processes_of_session

pytestmark = pytest.mark.ui


def test_when_one_process_dies_the_others_are_ended_and_it_says_which(ui: RunningUi) -> None:
    children = ui.children()

    os.kill(children["dagster-daemon"], signal.SIGKILL)

    assert ui.process.wait(timeout=END_SECONDS) == 1
    assert set(children) == {"dagster", "dagster-webserver", "dagster-daemon"}
    message = f"sequin-pipeline: the daemon (process {children['dagster-daemon']}) ended by itself with signal SIGKILL"
    assert message in ui.log.read_text()
    assert [processes_of_session(pid) for pid in children.values()] == [[], [], []]
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(ui.url, trust_env=False)
