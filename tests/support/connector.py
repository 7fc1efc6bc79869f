"""A connector that does as it is told: `python connector.py airbyte|singer PLAN CALL...`, as the protocols have it.

PLAN is a JSON file: for `check`, `spec`, `discover` and `read` a list of steps, each the name of a function below and its arguments.
It imports nothing of the project.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def option(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def content(name: str):
    path = option(name)
    return json.loads(Path(path).read_text()) if path else None


def say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


IS_AIRBYTE = sys.argv[1:2] == ["airbyte"]


def records(stream: str, *objects: object) -> None:
    for one in objects:
        if IS_AIRBYTE:
            say({"type": "RECORD", "record": {"stream": stream, "data": one, "emitted_at": 1}})
        else:
            say({"type": "RECORD", "stream": stream, "record": one})


def state(stream: str, value: object, count: float | None = None) -> None:
    if not IS_AIRBYTE:
        say({"type": "STATE", "value": value})
        return
    message = {"type": "STREAM", "stream": {"stream_descriptor": {"name": stream}, "stream_state": value}}
    if count is not None:
        message["sourceStats"] = {"recordCount": count}
    say({"type": "STATE", "state": message})


def status(stream: str, word: str) -> None:
    descriptor = {"name": stream, "namespace": None}
    say({"type": "TRACE", "trace": {"type": "STREAM_STATUS", "stream_status": {"stream_descriptor": descriptor, "status": word}}})


def error(failure_type: str, message: str) -> None:
    said = {"message": message, "internal_message": None, "failure_type": failure_type}
    say({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1.0, "error": said}})


def stderr(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def raw(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def big(stream: str, key: str, megabytes: int) -> None:
    records(stream, {"id": key, "updated": "2026-01-01T00:00:00Z", "text": "x" * (megabytes << 20)})


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def ignore_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def grandchild(path: str) -> None:
    """One that sleeps on, and holds the standard output."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(str(child.pid))


def tell(path: str) -> None:
    """Writes how this process was started."""
    files = {
        name: [oct(Path(given).stat().st_mode & 0o777), oct(Path(given).parent.stat().st_mode & 0o777), Path(given).read_text()]
        for name in ("--config", "--catalog", "--state")
        if (given := option(name))
    }
    folder = str(Path(option("--config") or ".").parent)
    told = {"pid": os.getpid(), "folder": folder, "argv": sys.argv, "environment": dict(os.environ), "files": files}
    Path(path + ".part").write_text(json.dumps(told))
    Path(path + ".part").rename(path)


def changes(stream: str, path: str, versions_a_state: int = 2, fails_at: int | None = None, *fault) -> None:
    """What the file at `path` has, `{id: object}`, from the time in the state on, in the order of `updated`. Behind so many objects
    the steps of a fault are taken."""
    given = content("--state")
    since = ""
    if given:
        since = given[0]["stream"]["stream_state"]["version"] if IS_AIRBYTE else given["version"]
    found = sorted(
        (one for one in json.loads(Path(path).read_text()).values() if one["updated"] >= since), key=lambda one: one["updated"]
    )
    sent = 0
    for number, one in enumerate(found, 1):
        if number == fails_at:
            for step in fault:
                do(step)
        records(stream, one)
        sent += 1
        if number % versions_a_state == 0:
            state(stream, {"version": one["updated"]}, sent)
            sent = 0
    if found:
        state(stream, {"version": found[-1]["updated"]}, sent)
    elif given:
        state(stream, {"version": since}, 0)


def exit_with(code: int) -> None:
    sys.exit(code)


def once(path: str, *step: object) -> None:
    """Does a step the first time only."""
    if not Path(path).exists():
        Path(path).write_text("done")
        do(step)


def do(step) -> None:
    name, *arguments = step
    globals()[name](*arguments)


def main() -> None:
    of_tap = "discover" if "--discover" in sys.argv else "read"
    call = sys.argv[3] if IS_AIRBYTE else of_tap
    plan = json.loads(Path(sys.argv[2]).read_text())
    for step in plan[call]:
        do(step)


if __name__ == "__main__":
    main()
