"""This module chooses the account that the embedded server runs as, and runs Postgres' programs as that account.

Postgres refuses to run as root. Then it runs as `postgres` where the machine has that account, else as `nobody`; no account is ever
made.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sequin_pipeline.errors import ConfigurationError

INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Nothing else of our environment is passed on: it holds tokens, and everything that runs as the server's account could read them."""


@dataclass(frozen=True)
class Outcome:
    """This value is what a program left behind; `output` is stdout and stderr in the order of writing."""

    returncode: int
    output: str


@dataclass(frozen=True)
class OsUser:
    """This value is an account of the operating system; `is_other` where it is not our own, which only root can become."""

    name: str
    uid: int
    gid: int
    is_other: bool

    def give(self, path: Path) -> None:
        """Makes the account the owner of something that we have just made."""
        if self.is_other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(self, command: Sequence[str | Path], stdout: IO[bytes] | None = None) -> Outcome:
        """Runs a program as the account; output goes to a file, since a server that inherits a pipe keeps its reader waiting."""
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(  # noqa: S603 - programs of the Postgres in use and paths of ours, no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout or output,
                    stderr=output,
                    check=False,
                    cwd="/",
                    env=_program_environment(),
                    umask=0o077,
                    user=self.uid if self.is_other else None,
                    group=self.gid if self.is_other else None,
                    extra_groups=[] if self.is_other else None,
                )
            except OSError as error:
                raise ConfigurationError(
                    f"{str(command[0])!r} could not be run as account {self.name!r}: {error.strerror}. "
                    "Set WAREHOUSE_URL to a Postgres of your own if this machine does not allow that"
                ) from error
            output.seek(0)
            return Outcome(done.returncode, output.read().decode(errors="replace").strip())

    def can_execute(self, path: Path) -> bool:
        """Says whether the account may run a program or enter a folder; asks the system, which knows of more than modes."""
        if not self.is_other:
            return os.access(path, os.X_OK)
        return self.run(["test", "-x", path]).returncode == 0

    def first_closed_folder(self, path: Path) -> Path | None:
        """Returns the topmost folder on the way to `path`, itself included, that the account cannot enter."""
        if self.can_execute(path):
            return None
        return next((folder for folder in [*reversed(path.parents), path] if not self.can_execute(folder)), path)


def own_user() -> OsUser:
    uid = os.geteuid()
    user = _find(uid)
    if user is None:
        raise ConfigurationError(
            f"the embedded Postgres does not run as uid {uid}, which has no name on this machine (no line in /etc/passwd): "
            "use an account that has one, or set WAREHOUSE_URL to a Postgres of your own"
        )
    return user


def server_user(data: Path) -> OsUser:
    """Returns our own account; for root the one that owns `data`.

    So an account added later does not lock the server out of its files.
    """
    if os.geteuid() != 0:
        return own_user()
    candidates = [data.stat().st_uid] if data.exists() else ["postgres", "nobody"]
    user = next((found for candidate in candidates if (found := _find(candidate))), None)
    if user is None or user.uid == 0:
        raise ConfigurationError(
            f"the embedded Postgres refuses to run as root, and found no other account for {str(data)!r}: it takes the owner of "
            "that folder, else 'postgres', else 'nobody'"
        )
    return user


def _find(name_or_uid: str | int) -> OsUser | None:
    import pwd  # absent on Windows, where importing this module must not fail

    try:
        entry = pwd.getpwuid(name_or_uid) if isinstance(name_or_uid, int) else pwd.getpwnam(name_or_uid)
    except KeyError:
        return None
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid, is_other=entry.pw_uid != os.geteuid())


def _program_environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
    return {**inherited, "LC_ALL": "C", "TZ": "UTC"}
