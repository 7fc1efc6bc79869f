"""These checks look at this machine: versions that go together, and room on disk."""

import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sequin_pipeline.environment import embedded
from sequin_pipeline.operate.doctor.finding import Finding, Level, Patient

SHOWN = ("sequin-pipeline", "dagster", "dagster-webserver", "dagster-postgres", "pandas", "psycopg")
RELEASED_TOGETHER = ("dagster", "dagster-webserver")

LOW_BYTES, FULL_BYTES = 2 * 1024**3, 200 * 1024**2
"""Below the first Postgres has no room for a busy day's write-ahead log (max_wal_size is 1 GB), below the second none for anything."""


def versions(patient: Patient) -> Iterator[Finding]:
    """Checks the versions of Python and of the packages."""
    found = {name: _version(name) for name in SHOWN}
    told = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    yield Finding("versions", "ok", f"Python {platform.python_version()}, {told}")
    missing = [name for name, number in found.items() if number is None]
    if missing:
        yield Finding("versions", "problem", f"not installed: {', '.join(missing)}", "install the project as its README says")
    if len({found[name] for name in RELEASED_TOGETHER}) > 1:
        pair = " and ".join(f"{name} {found[name]}" for name in RELEASED_TOGETHER)
        yield Finding(
            "versions", "warning", f"{pair} were not released together", "install the locked versions: requirements.lock"
        )


def disk(patient: Patient) -> Iterator[Finding]:
    """Checks the disks of this machine that hold files of ours; the disk of a server elsewhere cannot be seen."""
    places = {"temporary files": Path(tempfile.gettempdir())}
    if patient.settings.needs_embedded:
        places["embedded Postgres"] = embedded.find_home(patient.environment).root
    for name, place in places.items():
        free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
        level: Level = "problem" if free < FULL_BYTES else "warning" if free < LOW_BYTES else "ok"
        fix = "" if level == "ok" else "make room there"
        yield Finding("disk", level, f"{free / 1024**3:,.1f} GiB free for {name} in {place}", fix)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
