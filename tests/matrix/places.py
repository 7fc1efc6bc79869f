"""This module gets the interpreters and servers to test with: those of the machine, or else those of the package registries."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.matrix.cells import EMBEDDED
from tests.support.checkout import CHECKOUT

FOLDER = CHECKOUT / ".matrix"
LOCK = CHECKOUT / "requirements.lock"

NPM_RELEASES = {13: "13.23.0-beta.16", 14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17"}
"""Releases of the package `@embedded-postgres/…`: binaries of Postgres alone. Their names say beta of the package, not of Postgres."""


class Missing(Exception):
    """What cannot be had on this machine, as the end of 'not run here: …'."""


def interpreter(version: str) -> Path:
    """The Python of an environment with the locked packages, made or brought up to date. Raises Missing."""
    environment = FOLDER / f"python-{version}"
    python, stamp = environment / "bin" / "python", environment / ".locked"
    locked = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == locked:
        return python
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if not python.exists():
        made = _run([uv, "venv", "--quiet", "--clear", "--python", _found(version) or version, environment])
        if made:
            raise Missing(f"no Python {version} on the PATH or in pyenv, and none could be downloaded")
    for packages in (("--require-hashes", "-r", str(LOCK)), ("--no-deps", "--no-build-isolation", "-e", str(CHECKOUT))):
        failed = _run([uv, "pip", "install", "--quiet", "--python", python, *packages])
        if failed:
            raise Missing(f"the locked packages cannot be installed ({failed})")
    stamp.write_text(locked)
    return python


def _found(version: str) -> Path | None:
    """The first one that starts: a shim of pyenv is on the PATH for each version, and starts only the one that is in use."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted((pyenv / "versions").glob(f"{version}*/bin"))
    candidates = [folder / f"python{version}" for folder in folders]
    return next((each for each in candidates if each.exists() and not _run([each, "-c", "import venv"])), None)


def binaries(major: int) -> Path | None:
    """The folder of initdb and postgres; None is that of the environment's own wheel. Raises Missing."""
    if major == EMBEDDED:
        return None
    debian = Path(f"/usr/lib/postgresql/{major}/bin")
    if (debian / "initdb").exists():
        return debian
    package = (
        f"@embedded-postgres/{sys.platform}-{ {'x86_64': 'x64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"
    )
    folder = FOLDER / f"postgres-{NPM_RELEASES[major]}"
    found = folder / "node_modules" / package / "native" / "bin"
    if not (found / "initdb").exists():
        if shutil.which("npm") is None:
            raise Missing(f"no {debian}, and no npm to download Postgres {major} with")
        failed = _run(["npm", "install", "--silent", "--no-save", "--prefix", folder, f"{package}@{NPM_RELEASES[major]}"])
        if failed or not (found / "initdb").exists():
            raise Missing(f"no {debian}, and {package} {NPM_RELEASES[major]} could not be installed")
    return found


def python_version(python: Path) -> str:
    """The exact version, as 3.12.1."""
    return subprocess.check_output([python, "-c", "import platform; print(platform.python_version())"], text=True).strip()


def _run(command: list[str | Path]) -> str:
    """Runs it, and returns what it last said where it failed; empty where it did not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    if done.returncode == 0:
        return ""
    lines = re.sub(r"[|\x1b]", " ", done.stderr or done.stdout).strip().splitlines()
    return lines[-1].strip() if lines else f"exit status {done.returncode}"
