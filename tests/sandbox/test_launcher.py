"""Real processes of the sandbox: from the command line, and detached."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox import launcher
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.sandbox.builders import client, ids, line

pytestmark = pytest.mark.processes

PROGRAM = (sys.executable, "-m", "sequin_pipeline.cli", "sandbox")


@contextmanager
def command(*arguments: str) -> Iterator[str]:
    """A sandbox in the foreground; gives the URL that it prints. Its end is a kill: nothing that was served may be forgotten."""
    with subprocess.Popen((*PROGRAM, *arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            printed = re.fullmatch(r"sandbox: (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
            assert printed
            assert process.stdout.readline() == f"  export SEQUIN_API_URL={printed[1]} SEQUIN_API_TOKEN=sandbox\n"
            yield printed[1]
        finally:
            process.kill()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    launcher.stop(tmp_path / "home")


def test_the_command_serves_a_file_on_the_port_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(line("a") + b"\n" + line("b") + b"\n" + line("a"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with command("--records", str(tmp_path / "records.jsonl"), "--no-compact", "--port", str(port), "--limit-cap", "2") as url:
        page = httpx2.get(f"{url}/v1/records", trust_env=False)

    assert url == f"http://127.0.0.1:{port}"
    assert ids(page) == ["a", "b"]


def test_the_command_goes_on_where_a_killed_one_stood(tmp_path: Path) -> None:
    arguments = ("--rate", "200", "--state", str(tmp_path / "state.json"))
    with command(*arguments) as url, client(url) as http:
        head = http.get("/_sandbox/health").json()["head"]
        seen = http.get("/v1/records", params={"limit": 1000, "after_cursor": head}).json()
        while not seen["records"]:
            seen = http.get("/v1/records", params={"limit": 1000, "after_cursor": head}).json()

    with command("--state", str(tmp_path / "state.json")) as url, client(url) as http:
        again = http.get("/v1/records", params={"limit": 1000, "after_cursor": head}).json()

    assert again["records"] == seen["records"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--records", "missing.jsonl"), "cannot read the records of 'missing.jsonl'", id="no file"),
        pytest.param(("--records", "missing.jsonl", "--rate", "1"), "--rate and --state belong to made-up objects", id="rate"),
        pytest.param(("--fault", "bang"), "does not understand the fault 'bang'", id="fault"),
        pytest.param(
            ("--stripe", "--records", "missing.jsonl"), "cannot read the records of 'missing.jsonl'", id="no file of Stripe's"
        ),
        pytest.param(("--stripe", "--form", "old"), "--form cannot be used with --stripe", id="form"),
        pytest.param(("--stripe", "--no-compact", "--end", "empty-null"), "--no-compact, --end cannot be used", id="two options"),
        pytest.param(("--stripe", "--token", "rk_live_7Q"), "--token with --stripe is the key that", id="a live key"),
        pytest.param(("--stripe", "--token", "7Qsecret"), "must begin with rk_test_", id="no key"),
    ],
)
def test_the_command_says_what_to_fix(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    state = () if "--rate" in arguments else ("--home", str(tmp_path))

    outcome = subprocess.run((*PROGRAM, *arguments, *state), capture_output=True, text=True, cwd=tmp_path, check=False)

    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert said in outcome.stderr
    assert "7Q" not in outcome.stderr


def test_the_stripe_api_is_served_from_a_file_to_whoever_exports_what_is_printed(tmp_path: Path) -> None:
    records = [line("a", upstream_id="cus_a", data={"name": "first"}), line("b", upstream_id="cus_b")]
    (tmp_path / "records.jsonl").write_bytes(b"\n".join(records))
    arguments = ("--stripe", "--records", str(tmp_path / "records.jsonl"))

    with subprocess.Popen((*PROGRAM, *arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            printed = re.fullmatch(r"sandbox: (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
            assert printed
            exported = process.stdout.readline()
            customer = httpx2.get(f"{printed[1]}/v1/customers/cus_a", auth=("rk_test_sandbox", ""), trust_env=False)
        finally:
            process.kill()

    assert exported == f"  export STRIPE_API_URL={printed[1]} STRIPE_API_KEY=rk_test_sandbox\n"
    assert customer.json() == {"id": "cus_a", "object": "customer", "name": "first"}


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        outcome = subprocess.run((*PROGRAM, "--port", str(port)), capture_output=True, text=True, check=False)

    assert outcome.returncode == 2
    assert f"cannot listen on port {port} of 127.0.0.1" in outcome.stderr


def test_a_detached_sandbox_is_found_again_and_stopped(home: Path) -> None:
    first = launcher.ensure_running(home)
    second = launcher.ensure_running(home)
    running = launcher.running_url(home)
    health = httpx2.get(f"{first}/_sandbox/health", trust_env=False).json()
    stopped = [launcher.stop(home), launcher.stop(home)]

    assert first == second == running
    assert health["home"] == str(home)
    assert health["records"] > 5000
    assert stopped == [True, False]
    assert launcher.running_url(home) is None


def test_many_commands_at_once_start_one_sandbox(home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        urls = set(pool.map(launcher.ensure_running, [home] * 4))

    assert len(urls) == 1


def test_a_sandbox_that_died_is_replaced_at_its_url(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    home.mkdir()
    (home / "sandbox.json").write_text(json.dumps({"url": dead, "pid": 1}))

    url = launcher.ensure_running(home)

    assert url == dead  # what was synced belongs to its URL
    assert httpx2.get(f"{url}/v1/records", trust_env=False).status_code == 200


def test_a_sandbox_whose_port_was_taken_in_the_meantime_gets_another(home: Path) -> None:
    home.mkdir()
    with running_sandbox(RecordedFeed(), Settings(home="/folder/of/a/stranger")) as stranger:
        (home / "sandbox.json").write_text(json.dumps({"url": stranger, "pid": 1}))

        url = launcher.ensure_running(home)

    assert url != stranger
    assert launcher.running_url(home) == url


def test_a_stranger_on_the_recorded_address_is_neither_adopted_nor_stopped(home: Path) -> None:
    home.mkdir()
    with running_sandbox(RecordedFeed(), Settings(home="/folder/of/a/stranger")) as stranger:
        (home / "sandbox.json").write_text(json.dumps({"url": stranger, "pid": 1}))

        adopted = launcher.running_url(home)
        stopped = launcher.stop(home)
        status = httpx2.get(f"{stranger}/v1/records", trust_env=False).status_code

    assert (adopted, stopped, status) == (None, False, 200)


def test_a_sandbox_that_cannot_start_says_why(home: Path) -> None:
    home.mkdir()
    (home / "seed-1.json").write_text("{")

    with pytest.raises(ConfigurationError, match=r"did not start; it said: .*seed-1.json' cannot be read"):
        launcher.ensure_running(home)

    assert not (home / "sandbox.json").exists()
