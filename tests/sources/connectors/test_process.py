"""A connector as a child process: how it is started, what is read of it, and that nothing of it is left."""

import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
import pytest

from sequin_pipeline.errors import SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.reads import Connector
from sequin_pipeline.sources.connectors.installed import InstalledConnector
from sequin_pipeline.sources.connectors.masking import Mask
from sequin_pipeline.sources.connectors.process import ConnectorProcess, Limits, ReadStopped
from tests.sources.connectors.child import QUICK, SECRET, Step, installed, never, write_plan
from tests.support.checkout import CHECKOUT
from tests.support.waits import wait_until

pytestmark = pytest.mark.processes


def start(folder: Path, *steps: Step, stop: threading.Event | None = None, limits: Limits = QUICK) -> ConnectorProcess:
    """A read of the connector that takes these steps."""
    connector = installed(folder, {"read": steps}, limits=limits)
    return connector.start(["read", "--config", "{config}"], {}, stop or never())


def read(process: ConnectorProcess) -> list[bytes]:
    return [line for lines in process.lines() for line in lines]


def told(path: Path) -> dict[str, Any]:
    wait_until(path.exists, "the connector's own word")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def is_running(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def test_connector_gets_its_configuration_in_private_files_that_are_gone_afterwards(tmp_path: Path) -> None:
    with start(tmp_path, ["tell", str(tmp_path / "told")]) as process:
        assert (read(process), process.status()) == ([], 0)

    found = told(tmp_path / "told")
    assert found["files"]["--config"][:2] == ["0o600", "0o700"]
    assert json.loads(found["files"]["--config"][2])["token"] == SECRET
    assert not Path(found["folder"]).exists()
    assert all(SECRET not in argument for argument in found["argv"])


def test_connector_gets_no_more_of_the_environment_than_it_needs_to_reach_the_network(tmp_path: Path) -> None:
    connector = InstalledConnector(
        write_plan(tmp_path, {"read": [["tell", str(tmp_path / "told")]]}),
        {
            "PATH": os.environ["PATH"],
            "HOME": "/home/somebody",
            "HTTPS_PROXY": "http://proxy:3128",
            "SSL_CERT_FILE": "/etc/ca.pem",
            "CHILD_TOKEN": SECRET,
            "WAREHOUSE_URL": "postgresql://user:password@host/db",
        },
    )

    with connector.start(["read", "--config", "{config}"], {}, never()) as process:
        list(process.lines())

    environment = told(tmp_path / "told")["environment"]
    scratch = environment.pop("TMPDIR")
    assert {name: value for name, value in environment.items() if name not in ("LC_CTYPE", "__CF_USER_TEXT_ENCODING")} == {
        "PATH": os.environ["PATH"],
        "HOME": "/home/somebody",
        "HTTPS_PROXY": "http://proxy:3128",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "DO_NOT_TRACK": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    assert not Path(scratch).exists()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n", [b"a", b"b"]),
        ("a\n\nb", [b"a", b"", b"b"]),
        ("no end", [b"no end"]),
        ("", []),
        ("ä\r\n\u2028\n", ["ä\r".encode(), "\u2028".encode()]),
    ],
    ids=[
        "two lines",
        "an empty line, and one without end",
        "no end at all",
        "nothing",
        "other characters that some take for ends",
    ],
)
def test_lines_come_as_they_were_written(tmp_path: Path, text: str, lines: list[bytes]) -> None:
    with start(tmp_path, ["raw", text]) as process:
        found = read(process)

    assert found == lines


def test_line_of_64_mb_is_read_whole_in_time_that_grows_no_faster_than_it(tmp_path: Path) -> None:
    with start(tmp_path, ["big", "thing", "a", 64]) as process:
        tracemalloc.start()
        [line] = read(process)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert len(json.loads(line)["record"]["data"]["text"]) == 64 << 20
    assert most < 3 * (64 << 20)


def test_line_without_end_is_refused_before_it_takes_all_memory(tmp_path: Path) -> None:
    limits = Limits(line_bytes=1 << 20)

    with start(tmp_path, ["big", "thing", "a", 2], limits=limits) as process, pytest.raises(SourceFault) as refused:
        list(process.lines())

    assert f"the connector {Path(sys.executable).name!r} wrote a line of more than 1,048,576 bytes" in str(refused.value)


@pytest.mark.parametrize("steps", [[], [["ignore_term"]]], ids=["that listens", "that ignores SIGTERM"])
@pytest.mark.parametrize("way", ["closed", "stopped"])
def test_connector_is_gone_when_it_is_closed(tmp_path: Path, steps: list[Step], way: str) -> None:
    stop = threading.Event()
    hold = [*steps, ["grandchild", str(tmp_path / "grandchild")], ["tell", str(tmp_path / "told")], ["sleep", 600]]
    with start(tmp_path, *hold, stop=stop) as process:
        found = told(tmp_path / "told")
        if way == "stopped":
            threading.Timer(0.1, stop.set).start()
            with pytest.raises(ReadStopped):
                list(process.lines())

    pids = [found["pid"], int((tmp_path / "grandchild").read_text())]
    assert not Path(found["folder"]).exists()
    assert [pid for pid in pids if is_running(pid)] == []


@pytest.mark.processes
@pytest.mark.parametrize("steps", [[], [["ignore_term"]]], ids=["that listens", "that ignores SIGTERM"])
def test_connector_is_gone_with_its_folder_when_the_run_is_killed(tmp_path: Path, steps: list[Step]) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.sources.connectors.test_process import start\n"
        f"with start(Path({str(tmp_path)!r}), *{[*steps, ['tell', str(tmp_path / 'told')], ['sleep', 600]]!r}) as process:\n"
        "    list(process.lines())"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT) as run:
        found = told(tmp_path / "told")

        run.kill()

    wait_until(lambda: not is_running(found["pid"]), "the connector's end")
    wait_until(lambda: not Path(found["folder"]).exists(), "the removal of the folder")


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a connector outlives the process that guards it until its next write"
)
def test_connector_is_gone_when_the_process_that_guards_it_is_killed(tmp_path: Path) -> None:
    with start(tmp_path, ["tell", str(tmp_path / "told")], ["sleep", 600]) as process:
        found = told(tmp_path / "told")
        psutil.Process(found["pid"]).parent().kill()
        list(process.lines())

        wait_until(lambda: not is_running(found["pid"]), "the connector's end")


def test_process_that_left_the_group_and_holds_the_output_keeps_no_run_waiting(tmp_path: Path) -> None:
    pid = str(tmp_path / "pid")
    script = tmp_path / "leave.py"
    script.write_text(
        "import os, time\n"
        "if os.fork():\n"
        f"    while not os.path.exists({pid!r}):\n        time.sleep(0.01)\n"
        "    os._exit(0)\n"
        "os.setsid()\n"
        f"open({pid!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    connector = InstalledConnector(Connector((sys.executable, str(script))), os.environ, QUICK)

    with connector.start([], {}, never()) as process:
        assert (read(process), process.status()) == ([], 0)

    psutil.Process(int((tmp_path / "pid").read_text())).kill()


def test_gigabytes_on_the_standard_error_hold_nobody_up(tmp_path: Path) -> None:
    """More than the pipe holds, with a line that has no end: an unread pipe would stop the connector before its record."""
    with start(tmp_path, ["stderr", "warning " * 100_000], ["stderr", "the last line"], ["raw", "done\n"]) as process:
        found = read(process)
        process.status()

    assert found == [b"done"]
    assert process.tail().endswith(" | the last line")
    assert len(process.tail()) < 2_000


def test_silence_ends_in_words_and_with_what_was_said_last(tmp_path: Path) -> None:
    limits = Limits(silence_seconds=0.5, grace_seconds=0.2)

    with (
        start(tmp_path, ["stderr", f"waiting with {SECRET}"], ["sleep", 600], limits=limits) as process,
        pytest.raises(SourceUnavailable) as silence,
    ):
        list(process.lines())

    assert str(silence.value) == (
        f"the connector {Path(sys.executable).name!r} wrote nothing for 0 seconds, and was ended; the last that it said: waiting with ***"
    )


@pytest.mark.parametrize(
    ("steps", "status"),
    [([], 0), ([["exit_with", 3]], 3), ([["kill", 9]], 137), ([["kill", 11]], 139)],
    ids=["well", "with a status", "killed", "by a fault of memory"],
)
def test_status_tells_how_the_connector_ended(tmp_path: Path, steps: list[Step], status: int) -> None:
    with start(tmp_path, *steps) as process:
        list(process.lines())

        assert process.status() == status


@pytest.mark.parametrize("command", ["no-such-program", "/no/such/program", "~/no/such/program"])
def test_command_that_is_no_program_is_refused_by_name(command: str) -> None:
    connector = InstalledConnector(Connector((command,)), os.environ)

    with pytest.raises(SourceRefused) as refused, connector.start([], {}, never()):
        pass

    shown = str(Path(command).expanduser()) if command.startswith("~") else command
    assert str(refused.value) == (
        f"the connector's command {shown!r} is not a program that can be run: install the connector in an environment of its own, and name "
        "the program there by its whole path in `connector.command`"
    )


def test_program_whose_interpreter_is_gone_says_so(tmp_path: Path) -> None:
    """As of an environment that was moved."""
    program = tmp_path / "tap"
    program.write_text("#!/no/such/python\n")
    program.chmod(0o755)
    connector = InstalledConnector(Connector((str(program),)), os.environ, QUICK)

    with connector.start([], {}, never()) as process:
        list(process.lines())
        assert (process.status(), process.tail()) == (
            126,
            f"; the last that it said: {program} cannot be started: No such file or directory",
        )


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("abc123", "the token abc123 is wrong"),
        ("a/b+c d", "GET /x?token=a/b%2Bc%20d"),
        ("a/b+c d", "GET /x?token=a%2Fb%2Bc+d"),
        ('quo"te\\', 'the token quo\\"te\\\\ is wrong'),
        ("pässwort", "the token p\\u00e4sswort is wrong"),
        ("-----BEGIN-----\nMIIEvAIBADANBg\n-----END-----", "line 2: MIIEvAIBADANBg"),
        ("-----BEGIN-----\nMIIEvAIBADANBg\n-----END-----", '{"key": "-----BEGIN-----\\nMIIEvAIBADANBg\\n-----END-----"}'),
        ("1", "the token 1 is wrong"),
    ],
    ids=[
        "as it is",
        "in a path",
        "in a query",
        "in JSON",
        "in ASCII",
        "a line of it",
        "of several lines in JSON",
        "of one character",
    ],
)
def test_secret_is_masked_however_it_is_written(secret: str, said: str) -> None:
    masked = Mask([secret])(said)

    assert "***" in masked
    assert not any(part in masked for part in (secret, "MIIE", "sswort", "%2Bc", "te\\"))


@pytest.mark.parametrize("before", range(470, 501), ids=str)
def test_line_that_is_cut_within_a_secret_shows_no_part_of_it(before: int) -> None:
    shown = Mask([SECRET, "other"]).of_bytes(b"other" * 20 + b"x" * (before - 100) + SECRET.encode() + b"y" * 2_000, 500)

    assert not any(SECRET[:length] in shown for length in range(3, len(SECRET)))


def test_connector_is_gone_with_its_folder_when_everything_is_told_to_stop(tmp_path: Path) -> None:
    """As by a service manager, which tells each process by itself."""
    patient = Limits(silence_seconds=60.0, grace_seconds=60.0)
    with start(tmp_path, ["tell", str(tmp_path / "told")], ["sleep", 600], limits=patient) as process:
        found = told(tmp_path / "told")

        psutil.Process(found["pid"]).parent().terminate()

        assert (read(process), process.status()) == ([], 128 + 15)
        assert not Path(found["folder"]).exists()


def test_what_a_connector_says_moves_no_cursor_and_begins_no_line() -> None:
    assert Mask([]).of_bytes(b"red \x1b[31mtext\r\nERROR forged\x07", 500) == "red  [31mtext  ERROR forged "
