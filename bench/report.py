"""What is kept of a bench: one JSON document, and from it the text, the chart and the marked blocks of the documents.

Nothing in it tells whose machine it was: no host names, no paths.
"""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import figures
from bench.chart import chart
from bench.contestants import CHECKOUT
from bench.rounds import Results
from bench.tables import block, text

RESULTS = CHECKOUT / "bench" / "results"
DOCUMENTS = (CHECKOUT / "README.md", CHECKOUT / "docs" / "performance.md")
PACKAGES = ("dagster", "pandas", "pyarrow", "psycopg", "msgspec", "httpx2")

_BLOCK = re.compile(r"(<!-- bench: (?P<name>\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def build(
    results: Results,
    *,
    scale: str,
    rounds: int,
    records: int,
    record_bytes: int,
    encoding: str,
    server_version: str,
    settings: Mapping[str, str],
    machine: Mapping[str, Any],
    extras: Mapping[str, Any],
) -> dict[str, Any]:
    """The document: what JSON can hold, and all that the tables need."""
    return {
        "taken_on": f"{datetime.now(UTC):%Y-%m-%d}",
        "scale": scale,
        "rounds": rounds,
        "records": records,
        "record_bytes": record_bytes,
        "encoding": encoding,
        "machine": dict(machine),
        "versions": {
            "Python": platform.python_version(),
            "Postgres": server_version,
            **{name: version(name) for name in PACKAGES},
        },
        "settings": dict(settings),
        "ratios": [asdict(ratio) for ratio in figures.ratios(results)],
        "costs": [asdict(cost) for cost in figures.costs(results)],
        "stages": figures.stages(results),
        "nothing_new": figures.nothing_new(results),
        **extras,
        "not_run": dict(results.not_run),
        "compared": len(results.compared),
        "unequal": list(results.unequal),
    }


def machine() -> dict[str, Any]:
    """Size and kind, and how busy it is before the bench begins."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "model": _cpu_model(),
        "memory_gib": round(pages / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "load": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def save(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """As JSON, text and SVG, named for the scale."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"json": json.dumps(document, indent=1) + "\n", "txt": text(document), "svg": chart(document)}
    files = []
    for kind, content in contents.items():
        file = folder / f"{document['scale']}.{kind}"
        file.write_text(content, encoding="utf-8")
        files.append(file)
    return files


def load(folder: Path = RESULTS) -> dict[str, Any]:
    """The kept document of the default scale, with what only the large one measures."""
    document: dict[str, Any] = json.loads((folder / "default.json").read_text(encoding="utf-8"))
    large = folder / "large.json"
    if large.exists():
        kept = json.loads(large.read_text(encoding="utf-8"))
        document |= {name: kept[name] for name in ("many", "ticks", "memory", "growth") if name in kept}
    return document


def fill_in(page: str, document: Mapping[str, Any]) -> str:
    """The page with each marked block, `<!-- bench: name -->` to `<!-- /bench -->`, as the document has it."""
    return _BLOCK.sub(lambda mark: f"{mark[1]}{block(mark['name'], document)}\n{mark[3]}", page)


def rewrite_documents(documents: Sequence[Path] = DOCUMENTS) -> None:
    """Fills the kept figures into the README and the docs."""
    document = load()
    for path in documents:
        path.write_text(fill_in(path.read_text(encoding="utf-8"), document), encoding="utf-8")
