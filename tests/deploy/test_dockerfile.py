"""The Dockerfile passes hadolint, and only what it needs comes near the image."""

import re
from pathlib import Path

import pytest

from tests.deploy.tools import BIN, DEPLOY, needs_tools, run
from tests.support.checkout import CHECKOUT

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@needs_tools
@pytest.mark.processes
def test_hadolint_finds_nothing() -> None:
    linted = run([BIN / "hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile"])

    assert (linted.returncode, linted.stdout) == (0, "")


def test_whatever_it_copies_is_let_into_the_build(tmp_path: Path) -> None:
    let_in = {line.removeprefix("!") for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    locks = ["requirements.runtime.lock", "deploy/requirements.lock"]

    copied = [name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE) for name in line.split()]

    wanted = [*locks, *(name for name in copied if name != "${LOCK}")]
    assert [name for name in wanted if name not in let_in and re.sub(r"[^/]+(?=\.yaml$)", "*", name) not in let_in] == []
    assert [name for name in wanted if not (CHECKOUT / name).exists()] == []


@pytest.mark.parametrize("name", [".env", ".git", ".venv", "deploy/.env", "deploy/sources.env", "tests", "storage"])
def test_secrets_history_and_environments_stay_outside(name: str) -> None:
    lines = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    assert lines[0] == "*"
    assert [line for line in lines if line.lstrip("!").rstrip("/*") == name or line == f"!{name}"] == []
