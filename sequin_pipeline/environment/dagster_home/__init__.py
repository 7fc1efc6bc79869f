"""This package holds the dagster.yaml and the workspace.yaml of whoever brings none, and puts them where Dagster keeps its state.

A checkout has links to them at its top. An installed package has only these.
"""

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sequin_pipeline.environment.embedded import HOME_VARIABLE, find_home
from sequin_pipeline.errors import ConfigurationError

INSTANCE_FILE = "dagster.yaml"
SHIPPED = Path(__file__).parent
_FILES = (INSTANCE_FILE, "workspace.yaml")
_MARK = "# Written by sequin-pipeline, until somebody changes it: a changed file stays as it is. ({digest})\n"


def default_dagster_home(environ: Mapping[str, str]) -> Path:
    """Returns the folder below the pipeline's own; one for all working folders, since they share the embedded Postgres."""
    return find_home(environ).root / "dagster"


def write_dagster_home(folder: Path) -> None:
    """Makes the folder where it is missing, and brings the files in it up to date; what somebody has changed stays.

    Raises ConfigurationError where that is not allowed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in _FILES:
            _write(folder / name, (SHIPPED / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"Dagster keeps its state in {str(folder)!r}, but {error.strerror} for {error.filename!r}: set {HOME_VARIABLE} to a "
            f"folder that this account may write, or DAGSTER_HOME to one that holds a {INSTANCE_FILE}"
        ) from error


def _write(path: Path, shipped: str) -> None:
    text = _MARK.format(digest=_digest(shipped)) + shipped
    if path.exists():
        found = path.read_text(encoding="utf-8")
        if found == text or not _is_as_written(found):
            return
    # Whole or not at all: another command may be reading it.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as scratch:
        try:
            scratch.write(text)
            scratch.flush()
            Path(scratch.name).replace(path)
        finally:
            Path(scratch.name).unlink(missing_ok=True)


def _is_as_written(text: str) -> bool:
    mark, _, rest = text.partition("\n")
    digest = re.search(r"\((\w+)\)$", mark)
    return digest is not None and mark + "\n" == _MARK.format(digest=digest[1]) and digest[1] == _digest(rest)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
