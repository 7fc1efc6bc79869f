"""Each target of the Makefile works in a checkout whose path has a space, for root and for others."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.postgres import fast_folder, unprivileged_account

pytestmark = pytest.mark.processes

MAKEFILE = (CHECKOUT / "Makefile").read_text()
TARGETS = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[0].split()
NEEDED = (
    "Makefile",
    "pyproject.toml",
    "requirements.lock",
    "requirements.lowest.lock",
    "bench/peers/requirements.lock",
    "docs/site/requirements.lock",
    "tests/sources/connectors/requirements.lock",
    "tests/deploy/requirements.lock",
    "bench/peers/drizzle/package-lock.json",
)
UV = """#!/bin/sh
printf '%s|' "$VIRTUAL_ENV" "$@" >> uv.log
echo >> uv.log
"""
"""Stands in for uv, and writes down what it was told: the packages themselves take half a minute."""


@pytest.fixture
def checkout() -> Iterator[Path]:
    folder = Path(subprocess.check_output(["mktemp", "-d", fast_folder() / "sequin-make-XXXXXX"], text=True).strip())
    folder.chmod(0o755)
    checkout = folder / "a path with spaces"
    for name in NEEDED:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, checkout / name)
    yield checkout
    shutil.rmtree(folder)


def make(checkout: Path, *arguments: str, user: int | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "VIRTUAL_ENV", "PYTHON"))}
    programs = f"{checkout.parent}/programs:{environment['PATH']}"
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={**environment, "PATH": programs},
        capture_output=True,
        text=True,
        check=False,
        user=user,
        extra_groups=None if user is None else [],
    )


@pytest.mark.parametrize(
    "target",
    [
        *TARGETS,
        ".venv-bench/.installed",
        ".venv-connectors/.installed",
        ".venv-deploy/.installed",
        ".venv-docs/.installed",
        ".venv-lowest/.installed",
    ],
)
def test_no_command_of_a_target_is_cut_at_a_space_of_the_path(checkout: Path, target: str) -> None:
    planned = make(checkout, "--dry-run", target)

    before = re.findall(f"(.){re.escape(str(checkout))}", planned.stdout)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert set(before) <= {'"'}


@pytest.mark.parametrize(
    ("arguments", "run"),
    [
        pytest.param(("ui",), ".venv/bin/sequin-pipeline ui", id="the usual port"),
        pytest.param(("ui", "PORT=3001"), ".venv/bin/sequin-pipeline ui --port 3001", id="another port"),
    ],
)
def test_the_ui_is_run_on_the_port_that_make_is_told(checkout: Path, arguments: tuple[str, ...], run: str) -> None:
    planned = make(checkout, "--dry-run", *arguments)

    assert planned.stdout.splitlines()[-1].strip() == run


@pytest.mark.parametrize("user", ["own", "ordinary"])
def test_packages_are_installed_into_the_environment_of_a_path_with_spaces(checkout: Path, user: str) -> None:
    account = unprivileged_account() if user == "ordinary" else None
    if user == "ordinary" and account is None:
        pytest.skip("the tests run as an ordinary user, so that the other row is this one")
    python = checkout.parent / "programs" / "python 3"
    python.parent.mkdir()
    # The interpreter of the tests may lie where only root can enter.
    python.write_text(f"#!/bin/sh\necho 'Python {sys.version_info[0]}.{sys.version_info[1]}'\n")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for program, text in (
        (python, python.read_text()),
        (python.with_name("uv"), UV),
        (checkout / ".venv/bin/python", "#!/bin/sh\n"),
    ):
        program.write_text(text)
        program.chmod(0o755)
    if account is not None:
        for path in (checkout, *checkout.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)

    done = make(checkout, ".venv/.installed", f"PYTHON={python}", user=account.pw_uid if account else None)

    assert (done.returncode, done.stderr) == (0, "")
    assert (checkout / "uv.log").read_text().splitlines() == [
        f"{checkout}/.venv|pip|install|--quiet|--compile-bytecode|--require-hashes|-r|requirements.lock|",
        f"{checkout}/.venv|pip|install|--quiet|--no-deps|--no-build-isolation|-e|.|",
    ]
