"""`sequin-pipeline ui` runs Dagster's webserver, daemon and code server on this machine, until Ctrl-C.

What runs and how it is known to be ready is decided here; supervisor.py keeps the processes together.
"""

import fcntl
import hashlib
import json
import os
import socket
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import yaml

from sequin_pipeline.cli.daemon_claim import claimed_storage
from sequin_pipeline.cli.running import is_in_checkout, program, still_running
from sequin_pipeline.cli.session import announce, check_dagster_storage, open_session
from sequin_pipeline.cli.supervisor import Supervisor, stop_requested
from sequin_pipeline.environment import embedded
from sequin_pipeline.environment import settings as environment
from sequin_pipeline.errors import ConfigurationError, PipelineError
from sequin_pipeline.postgres.urls import plain_postgres_url

LOOPBACK = "127.0.0.1"
"""No other address is listened on: Dagster's UI knows no password, and whoever reaches it can run what is declared."""
DEFAULT_PORT = 3000
LOCATION = "sequin_pipeline"
"""This is the name in workspace.yaml: Dagster keeps a schedule's state under it."""
MODULE = "sequin_pipeline.definitions"

NAME_WIDTH = 11
COLOURS: Mapping[str, str] = {"code server": "blue", "webserver": "green", "daemon": "magenta"}

STATE_QUERY = """{
  workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { ... on PythonError { message } } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType lastHeartbeatTime } } }
}"""


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help=f"Port of {LOOPBACK}.")
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
def command(*, port: int, sandbox: bool) -> None:
    """Run Dagster's UI with everything that it needs: schedules tick and backfills run while it does.

    Ends with Ctrl-C; runs at work fail then, and the next ones continue where they were. Exit status: 0 ended on request, or it
    runs there already; 1 one of its processes ended by itself; 2 wrong usage.
    """
    session = open_session(wants_sandbox=sandbox)
    announce(session)
    check_dagster_storage(session)
    url = f"http://{LOOPBACK}:{port}"
    record = _record(session.settings.dagster_postgres_url)
    with stop_requested() as is_stopping, _claimed(record) as is_ours:
        if not is_ours:
            _show_the_first(record, url)
            return
        _check_port(port)
        with claimed_storage(plain_postgres_url(session.settings.dagster_postgres_url, environment.DAGSTER_POSTGRES_URL)):
            record.write_text(json.dumps({"url": url, "pid": os.getpid()}))
            _serve(url, port=port, is_stopping=is_stopping)
    click.echo("The UI has ended; nothing of it is left running.")
    if going_on := still_running(session.settings):
        click.echo(f"Beside it, {going_on}.")


def _serve(url: str, *, port: int, is_stopping: Callable[[], bool]) -> None:
    import dagster as dg

    begun_at = time.time()
    with tempfile.TemporaryDirectory(prefix="sequin-ui-") as folder:
        directory = Path(folder)
        code_socket, workspace = directory / "code.sock", directory / "workspace.yaml"
        server = {"grpc_server": {"socket": str(code_socket), "location_name": LOCATION}}
        workspace.write_text(yaml.safe_dump({"load_from": [server]}))
        scripts = Path(sysconfig.get_path("scripts"))
        with Supervisor(_children_environment(os.environ), directory, report=_print_line) as children:
            load = ["code-server", "start", "-m", MODULE, "--location-name", LOCATION, "--socket", str(code_socket)]
            children.start("code server", [str(scripts / "dagster"), *load])
            with dg.DagsterInstance.get():
                pass  # its tables exist now: the other two would both make them, at the same time
            children.tend(until=lambda: is_stopping() or _accepts(code_socket))
            if not is_stopping():
                listen = ["-h", LOOPBACK, "-p", str(port)]
                children.start("webserver", [str(scripts / "dagster-webserver"), *listen, "-w", str(workspace)])
                children.start("daemon", [str(scripts / "dagster-daemon"), "run", "-w", str(workspace)])
            children.tend(until=lambda: is_stopping() or _is_ready(url, since=begun_at))
            if not is_stopping():
                click.secho(f"\nThe UI is ready at {url} after {time.time() - begun_at:.0f} s. Ctrl-C ends it.", bold=True)
                click.echo(f"  switch schedules on   {url}/automation\n  look at the assets    {url}/asset-groups\n")
            children.tend(until=is_stopping)
            click.echo("\nEnding the webserver, the daemon and the code server ...")


def _children_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the children's environment; they run in an empty folder, so that no `.env` and no user's file overrides it."""
    # Loading the definitions warns of every beta feature for every collection; whoever wants that says so with the same variable.
    children = {"PYTHONWARNINGS": "ignore", **environ, "PYTHONUNBUFFERED": "1"}
    if named := environ.get(environment.SEQUIN_COLLECTIONS):
        children[environment.SEQUIN_COLLECTIONS] = str(Path(named).expanduser().resolve())
    return children


def _accepts(code_socket: Path) -> bool:
    """Says whether the code server listens, which it does only after it has loaded the definitions."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(code_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _is_ready(url: str, *, since: float) -> bool:
    """Returns True when the UI answers and shows the definitions, and the daemon started `since` is at work.

    `since` is in seconds of Unix time. Raises PipelineError when the definitions did not load.
    """
    import httpx2

    try:
        answer = httpx2.post(f"{url}/graphql", json={"query": STATE_QUERY}, timeout=5, trust_env=False)
        state = answer.raise_for_status().json()["data"]
    except httpx2.HTTPError:
        return False
    entries = state["workspaceOrError"].get("locationEntries", [])
    for entry in entries:
        if message := (entry["locationOrLoadError"] or {}).get("message"):
            raise PipelineError(f"Dagster could not load the definitions: {message}")
    heartbeats = [status["lastHeartbeatTime"] or 0.0 for status in state["instance"]["daemonHealth"]["allDaemonStatuses"]]
    return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries) and max(heartbeats, default=0.0) > since


def _check_port(port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            other = f"make ui PORT={DEFAULT_PORT + 1}" if is_in_checkout() else f"{program()} ui --port {DEFAULT_PORT + 1}"
            raise ConfigurationError(
                f"the UI cannot listen on port {port} of {LOOPBACK}: {error.strerror}. Another program is there: end it, or choose "
                f"another one, as in `{other}`"
            ) from error


def _record(dagster_postgres_url: str) -> Path:
    """Returns where the UI of a Dagster storage says where it runs on this machine; other machines see the claim in the storage."""
    folder = embedded.find_home(os.environ).root / "ui"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{hashlib.blake2b(dagster_postgres_url.encode(), digest_size=8).hexdigest()}.json"


@contextmanager
def _claimed(record: Path) -> Iterator[bool]:
    """Says whether no other UI holds the record; the kernel gives the claim back when its holder dies, however it dies."""
    with record.open("a") as claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            claim.truncate(0)
            yield True


def _show_the_first(record: Path, url: str) -> None:
    """Shows where the UI runs already; raises ConfigurationError when that is not where it was asked for."""
    try:
        first = json.loads(record.read_text())
    except ValueError:
        raise ConfigurationError("another UI on the same Dagster storage is just being started: try again in a moment") from None
    if first["url"] != url:
        raise ConfigurationError(
            f"a UI on the same Dagster storage is already running at {first['url']} (process {first['pid']}), and a second daemon would do "
            "everything twice: use that one, or end it first"
        )
    click.secho(f"The UI is already running at {first['url']} (process {first['pid']}).", bold=True)


def _print_line(name: str, line: str) -> None:
    if " - DEBUG - " in line:
        return  # an event of a run: the run's page has them all, which are thousands for a run over many windows
    click.echo(f"{click.style(name.ljust(NAME_WIDTH), fg=COLOURS[name])} | {line}", err=True)
