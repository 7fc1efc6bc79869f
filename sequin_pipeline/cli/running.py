"""This module says which servers of ours go on running when a command has ended, and how to stop them."""

import shutil
import sys
from pathlib import Path

from sequin_pipeline.environment.settings import Settings, find_checkout

PROGRAM = "sequin-pipeline"


def is_in_checkout() -> bool:
    """Says whether the commands of the Makefile can be used where we are."""
    return Path.cwd() == find_checkout() and Path("Makefile").is_file()


def program() -> str:
    """Returns what to write to run our commands here: in a checkout whose environment is not active, with its path."""
    beside = Path(sys.executable).parent / PROGRAM
    if shutil.which(PROGRAM) is None and is_in_checkout() and beside.is_relative_to(Path.cwd()):
        return str(beside.relative_to(Path.cwd()))
    return PROGRAM


def still_running(settings: Settings) -> str | None:
    """Returns a sentence about what was started for these settings and outlives the command, or None where nothing was."""
    servers = [
        *(["the embedded Postgres"] if settings.needs_embedded else []),
        *(["the sandbox"] if settings.uses_sandbox else []),
    ]
    if not servers:
        return None
    verb, them = ("go", "both") if len(servers) > 1 else ("goes", "it")
    return f"{' and '.join(servers)} {verb} on; `{program()} db stop` ends {them}"
