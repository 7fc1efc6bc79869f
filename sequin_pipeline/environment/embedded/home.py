"""This module decides where the embedded server keeps its files, and that nobody else can reach them.

Access is decided by the file system alone: the server trusts whoever reaches its socket, so the folders below are closed to everybody
but its account. Folders that are not ours are never opened for it.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import platformdirs

from sequin_pipeline.environment.embedded.os_user import OsUser
from sequin_pipeline.errors import ConfigurationError

HOME_VARIABLE = "SEQUIN_PIPELINE_HOME"
ROOT_HOME = Path("/var/lib/sequin_pipeline")
"""Root gets this home: its own data folder usually lies below a folder that is closed to the account the server runs as."""
PORT = 5432
"""This number is only part of the socket's name: nothing listens on a network."""
MAX_SOCKET_DIRECTORY_BYTES = 89
"""The socket's address has 104 bytes on macOS (108 on Linux), with a closing zero and `/.s.PGSQL.5432`."""
SHARED_TEMPORARY = Path("/tmp")  # noqa: S108 - a folder of ours in it is made 0700, or refused unless it already is ours
UNUSABLE_CHARACTERS = frozenset('"$`\\')
"""The shell command into which pg_ctl puts the path, between double quotes, would read these."""


@dataclass(frozen=True)
class Home:
    """This value is the layout below `root`, which is absolute and without symbolic links; `prepare` makes and checks it."""

    root: Path

    @property
    def data(self) -> Path:
        """This is the data directory, which exists only once it is complete."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def configuration(self) -> Path:
        """This is our configuration file, rewritten at every start.

        It lies outside `data`, so that the server's account cannot aim our writes elsewhere.
        """
        return self.root / "embedded.conf"

    @property
    def socket_directory(self) -> Path:
        """This is the folder of the server's socket.

        It lies below `root`, unless that path is too long for a socket or holds a comma, which libpq takes for a list of hosts.
        """
        directory = self.root / "run"
        if len(os.fsencode(directory)) <= MAX_SOCKET_DIRECTORY_BYTES and "," not in str(directory):
            return directory
        mark = hashlib.blake2b(os.fsencode(self.root), digest_size=8).hexdigest()
        return SHARED_TEMPORARY / f"sequin_pipeline-{os.geteuid()}-{mark}"

    @property
    def socket_lock(self) -> Path:
        return self.socket_directory / f".s.PGSQL.{PORT}.lock"

    def url(self, database: str) -> str:
        """Returns a libpq URL, closed against libpq's environment by its empty `hostaddr`; it does not say whether the server runs."""
        directory = quote(str(self.socket_directory))
        return f"postgresql://postgres@/{quote(database, safe='')}?host={directory}&port={PORT}&hostaddr="


def find_home(environ: Mapping[str, str]) -> Home:
    """Finds the home: `SEQUIN_PIPELINE_HOME`, else /var/lib/sequin_pipeline for root, else the user's data folder."""
    if os.name != "posix":
        raise ConfigurationError(
            "the embedded Postgres runs on Linux and macOS only: set WAREHOUSE_URL to a Postgres of your own"
        )
    if named := environ.get(HOME_VARIABLE):
        root = Path(named).expanduser()
    elif os.geteuid() == 0:
        root = ROOT_HOME
    else:
        root = Path(platformdirs.user_data_dir("sequin_pipeline"))
    if not root.is_absolute():
        raise ConfigurationError(
            f"{HOME_VARIABLE} is {named!r}, but must be an absolute path: every command has to find the same server"
        )
    root = root.resolve()
    if any(character in UNUSABLE_CHARACTERS or not character.isprintable() for character in str(root)):
        raise ConfigurationError(
            f"the embedded Postgres cannot use {str(root)!r}: set {HOME_VARIABLE} to a path without quotes, "
            "backslashes, dollar signs and control characters"
        )
    return Home(root)


def prepare(home: Home, user: OsUser) -> None:
    """Makes `root`, `log` and the socket's folder where they are missing; refuses any that others own or can enter."""
    try:
        # Another command may make it meanwhile.
        with suppress(FileExistsError):
            home.root.mkdir(parents=True)
            # The account that the server runs as for root must be able to pass through, and finds nothing else to read.
            home.root.chmod(0o755 if user.is_other else 0o700)
        for directory in (home.log, home.socket_directory):
            make_private(directory, user)
    except OSError as error:
        raise ConfigurationError(
            f"the embedded Postgres needs the folder {str(home.root)!r}, but {error.strerror} for {error.filename!r}: "
            f"set {HOME_VARIABLE} to a folder that this account may write, or WAREHOUSE_URL to a Postgres of your own"
        ) from error
    if closed := user.first_closed_folder(home.log):
        raise ConfigurationError(
            f"the embedded Postgres runs as {user.name!r} because it refuses to run as root, and that account cannot enter "
            f"{str(closed)!r}, in which its home {str(home.root)!r} lies: set {HOME_VARIABLE} to a folder that it can reach"
        )


def make_private(directory: Path, user: OsUser) -> None:
    """Makes a folder that only the server's account can enter; an existing one must already be so.

    In a shared temporary folder anybody may have put one there. Raises OSError where it cannot be made, ConfigurationError where it is
    not private.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        check_private(directory, user)
    else:
        directory.chmod(0o700)
        user.give(directory)


def check_private(directory: Path, user: OsUser) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user.uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(
            f"{str(directory)!r} must be a folder of account {user.name!r} with mode 0700, since whoever enters it may use the "
            f"embedded Postgres; it is owned by uid {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}: remove it, or set "
            f"{HOME_VARIABLE} to another folder"
        )


@contextmanager
def exclusive(home: Home) -> Iterator[None]:
    """Waits for its turn to start or stop the server; the kernel gives the lock back when its holder dies, however it dies.

    The home must be on a local disk: locks of network file systems do not keep this promise.
    """
    import fcntl  # absent on Windows, where importing this module must not fail

    path = home.root / "start.lock"
    path.touch(mode=0o600)
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
