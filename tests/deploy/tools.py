"""What reads deploy/ as its users' tools do: .venv-deploy, which `make deploy-tools` makes, and docker-compose."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.system import LEFT_OUT, SKIP_SYSTEM

DEPLOY = CHECKOUT / "deploy"
BIN = CHECKOUT / ".venv-deploy" / "bin"

needs_tools = pytest.mark.skipif(
    not (BIN.parent / ".installed").exists(), reason="make deploy-tools could not install its packages"
)
needs_compose = pytest.mark.skipif(
    SKIP_SYSTEM or shutil.which("docker-compose") is None,
    reason=LEFT_OUT if SKIP_SYSTEM else "docker-compose is not there (on Debian: apt-get install docker-compose)",
)


def environment(**variables: str) -> dict[str, str]:
    """The environment of a machine that knows nothing of this one but its programs, and the tools before them."""
    return {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **variables}


def run(command: Sequence[str | Path], *, folder: Path = CHECKOUT, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False, timeout=120
    )
