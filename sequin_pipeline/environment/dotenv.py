"""This module reads and writes the project's `.env`: the user's lines, and ours, each with a mark at its end.

Dagster's commands read it, and for them it wins over the environment. So an outdated line of ours would send rows to the wrong place:
ours are written anew each time, never read back, and give way to a variable that is exported, which is asked for in the line itself.
"""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from sequin_pipeline.errors import ConfigurationError

MARK = "# written by sequin-pipeline"

UNWRITABLE = ('"', "}", "$", "`", "\\", "\n")
"""These cannot be written between double quotes, in a default of `${NAME:-default}`."""


def read_dotenv(path: Path) -> dict[str, str]:
    """Returns what the user's own lines say, or nothing if there is no file."""
    values = dotenv_values(stream=io.StringIO("".join(_user_lines(path))))
    return {name: value for name, value in values.items() if value is not None}


def write_dotenv(path: Path, values: Mapping[str, str]) -> None:
    """Replaces our lines by `values` and keeps the user's; the file is then readable by its owner only, and never half-written.

    No file is made for no values. A value may not hold what would end or expand it, for dotenv or for a shell.
    """
    _check_writable(path, values)
    kept = _user_lines(path)
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    text = "".join([*kept, *(f'{name}="${{{name}:-{value}}}"  {MARK}\n' for name, value in values.items())])
    if not path.exists() and not values:
        return
    try:
        _replace(path.resolve(), text)
    except OSError as error:
        raise ConfigurationError(
            f"{str(path)!r}, from which Dagster's commands read where the databases are, could not be written: {error.strerror}"
        ) from error


def _check_writable(path: Path, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if found := next((mark for mark in UNWRITABLE if mark in value), None):
            raise ConfigurationError(
                f"the value of {name} cannot be written to {str(path)!r}: it holds {found!r}, which would end or change it there"
            )


def _user_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(path)!r} could not be read as UTF-8 text: {error}") from error
    return [line for line in text.splitlines(keepends=True) if not line.rstrip().endswith(MARK)]


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".env.", delete=False) as scratch:
        try:
            scratch.write(text)
            scratch.flush()
            Path(scratch.name).replace(path)
        finally:
            Path(scratch.name).unlink(missing_ok=True)
