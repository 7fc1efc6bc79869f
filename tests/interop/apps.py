"""The example applications, run as their READMEs say: a copy each, whose packages come from one `npm ci` per lock."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
import psycopg
from psycopg import sql

from tests.support.postgres import ASIDE

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGES = Path(__file__).parent / "packages"
"""Other packages for an example, named for it and their version: what its users have besides what it pins itself."""
COMMAND_SECONDS = 120.0
NOT_COPIED = shutil.ignore_patterns("node_modules", "generated", "__pycache__")
NETWORK_MARKS = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH")
"""What npm says when there is no way to the registry."""


TSX = ("node", "--import", "tsx")
"""What `tsx` runs, in one process instead of two."""


class RegistryUnreachable(Exception):
    """The packages are not in the cache, and npm cannot get them."""


@dataclass(frozen=True)
class Commands:
    """What an application is run by, in its folder. `unchanged` is what its migration tool says when there is nothing to do.

    `table_maker` is the application whose tool makes and checks the table, where its own cannot.
    """

    migrate: tuple[str, ...]
    check: tuple[str, ...]
    unchanged: str
    upsert: tuple[str, ...]
    show: tuple[str, ...]
    table_maker: str = ""


def _node(*check: str, unchanged: str, table_maker: str = "") -> Commands:
    migrate = ("npm", "run", "--silent", "migrate")
    return Commands(migrate, check or migrate, unchanged, (*TSX, "src/upsert.ts"), (*TSX, "src/print.ts"), table_maker)


_ALEMBIC = (sys.executable, "-m", "alembic")

COMMANDS: Mapping[str, Commands] = {
    "drizzle": _node(unchanged="No changes detected"),
    "drizzle-1.0": _node(unchanged="No changes detected"),
    # Its `migrate` generates the client too, which takes a processor for four seconds.
    "prisma": _node(
        "node_modules/.bin/prisma",
        "db",
        "push",
        "--skip-generate",
        unchanged="The database is already in sync with the Prisma schema.",
    ),
    # Its own push wants an engine that npm does not have.
    "prisma-7": _node(unchanged="", table_maker="prisma"),
    "typeorm": _node(unchanged=""),
    "sqlalchemy": Commands(
        (*_ALEMBIC, "upgrade", "head"),
        (*_ALEMBIC, "check"),
        "No new upgrade operations detected.",
        (sys.executable, "upsert.py"),
        (sys.executable, "print_table.py"),
    ),
}


@dataclass(frozen=True)
class App:
    """An application in a folder of its own. `address` is what it connects to, `url` the same database for the pipeline."""

    name: str
    folder: Path
    address: str
    url: str
    table_maker: "App | None" = None

    @property
    def commands(self) -> Commands:
        return COMMANDS[self.name]

    @property
    def collections(self) -> Path:
        """The folder for SEQUIN_COLLECTIONS that its README names."""
        return example_of(self.name) / "collections"

    def on(self, address: str, url: str) -> "App":
        """The same application on another database."""
        maker = self.table_maker.on(address, url) if self.table_maker else None
        return replace(self, address=address, url=url, table_maker=maker)

    def run(self, command: Iterable[str], *, stdin: str = "", time_zone: str = "UTC") -> str:
        """What it printed; it must succeed."""
        with self.start(command, time_zone=time_zone) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout=COMMAND_SECONDS)
            except BaseException:
                process.kill()
                raise
        assert process.returncode == 0, f"{self.name}: {stdout}{stderr}"
        return stdout

    def start(self, command: Iterable[str], *, time_zone: str = "UTC") -> "subprocess.Popen[str]":
        """Under way; whoever starts it ends it."""
        ours = {"DATABASE_URL": self.address, "TZ": time_zone, "CHECKPOINT_DISABLE": "1", "NO_COLOR": "1"}
        return subprocess.Popen(
            [*command],
            cwd=self.folder,
            env={**os.environ, **ours},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def migrate(self) -> None:
        if self.table_maker is not None:
            self.table_maker.run(self.table_maker.commands.check)
        self.run(self.commands.migrate)

    def check_migrated(self) -> None:
        """Its migration tool finds nothing to do, or the test ends with what it would do."""
        if self.table_maker is not None:
            self.table_maker.check_migrated()
            return
        said = self.run(self.commands.check)
        assert self.commands.unchanged in said if self.commands.unchanged else said == "", said

    def rows(self, *, time_zone: str) -> list[dict[str, object]]:
        """As the application reads them."""
        return [json.loads(line) for line in self.run(self.commands.show, time_zone=time_zone).splitlines()]


def lines_of(records: Iterable[Mapping[str, object]]) -> str:
    """What an application's upsert script reads."""
    return "".join(json.dumps(record) + "\n" for record in records)


def copy_of(name: str, folder: Path) -> Path:
    """The example's files, with the packages of its lock, and what stands beside that in place of its own."""
    shutil.copytree(example_of(name), folder, ignore=NOT_COPIED)
    if (PACKAGES / name).is_dir():
        shutil.copytree(PACKAGES / name, folder, dirs_exist_ok=True)
    if (folder / "package.json").exists():
        (folder / "node_modules").symlink_to(installed_packages(name))
    return folder


def example_of(name: str) -> Path:
    """The folder of the example, whatever version its packages are of."""
    return EXAMPLES / name.partition("-")[0]


def installed_packages(name: str) -> Path:
    """node_modules of the example's lock, kept in the user's cache folder between runs."""
    packages = PACKAGES / name if (PACKAGES / name).is_dir() else EXAMPLES / name
    manifest, lock = packages / "package.json", packages / "package-lock.json"
    mark = hashlib.blake2b(manifest.read_bytes() + lock.read_bytes(), digest_size=8).hexdigest()
    cache = Path(platformdirs.user_cache_dir("sequin_pipeline")) / "interop"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{name}-{mark}"
    with (cache / f"{name}.lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not kept.exists():
            for outdated in cache.glob(f"{name}-{'[0-9a-f]' * 16}"):
                shutil.rmtree(outdated)
            unfinished = cache / f"unfinished-{name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            shutil.copy(manifest, unfinished)
            shutil.copy(lock, unfinished)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=unfinished, check=False, timeout=COMMAND_SECONDS, capture_output=True, text=True)
            if done.returncode != 0 and any(mark in done.stderr for mark in NETWORK_MARKS):
                raise RegistryUnreachable(done.stderr.strip().splitlines()[-1])
            assert done.returncode == 0, done.stderr
            unfinished.rename(kept)
    return kept / "node_modules"


def set_time_zone(url: str, time_zone: str) -> None:
    """Of every session that begins from now on in this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set timezone = {}").format(name, sql.Literal(time_zone)))


def wait_until_connected(url: str) -> None:
    """Returns when somebody else has a connection to this database."""
    deadline = time.monotonic() + COMMAND_SECONDS
    others = (
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        f" and application_name <> '{ASIDE}'"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(others).fetchone() == (0,):
            assert time.monotonic() < deadline, "the application did not connect"
            time.sleep(0.01)
