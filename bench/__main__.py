"""`make bench`: measures, prints one table, and keeps it as JSON, text and SVG. The README and the docs take their figures from it."""

import argparse
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import beside, extras, figures, report
from bench.contestants import CORE, ENTRIES, FAST_PEERS, PIPELINE, with_besides
from bench.postgres import running_postgres
from bench.records import page_files, write_pages
from bench.rounds import Arena, Results, run_round, running_api
from bench.server import COMPRESS
from bench.tables import text


@dataclass(frozen=True)
class Scale:
    """How much is measured: `large` adds streams of a million records and tables of ten million rows. `once` follows the rounds."""

    name: str
    records: int
    rounds: int
    once: tuple[str, ...]


FIRST_LOAD = "first_load"
"""A section that needs another checkout."""

FAST = "peers"
"""A section too: the fastest ways that others have, each beside the pipeline."""

SCALES = {
    "quick": Scale("quick", 2_000, 1, extras.QUICK),
    "default": Scale("default", 100_000, 2, extras.DEFAULT),
    "large": Scale("large", 100_000, 1, extras.LARGE),
}


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.only == FIRST_LOAD and not arguments.beside:
        parser.error(f"--only {FIRST_LOAD} compares with another checkout: name it with --beside")
    if arguments.fill_in:
        report.rewrite_documents()
        return 0
    scale = SCALES["quick" if arguments.quick else "large" if arguments.large else "default"]
    results = Results()
    entries = CORE if arguments.large or arguments.no_peers else ENTRIES
    rounds, records = arguments.rounds or scale.rounds, arguments.records or scale.records
    machine = report.machine()
    with tempfile.TemporaryDirectory(prefix="sequin-bench-") as folder:
        pages, scratch = Path(folder) / "pages", Path(folder) / "scratch"
        _tell(f"making {records:,} records in three revisions")
        write_pages(pages, records=records)
        with running_postgres(os.environ) as postgres, running_api(pages) as api:
            other = None if arguments.beside is None else arguments.beside.resolve()
            arena = Arena(postgres, pages, api, scratch, records, arguments.encoding, other)
            if other is not None and arguments.only == FIRST_LOAD:
                loaded = arguments.records or beside.FIRST_LOAD_RECORDS
                print(beside.compare_first_loads(arena, other, records=loaded, rounds=rounds, tell=_tell))
                return 0
            if arguments.only:
                print(_section(arena, arguments.only, rounds=rounds))
                return 0
            if other is not None:
                print(beside.compare(arena, other, rounds=rounds, tell=_tell))
                return 0
            for number in range(1, rounds + 1):
                _tell(f"round {number} of {rounds}")
                run_round(arena, entries, results, number=number)
            once: dict[str, Any] = {}
            for name in scale.once:
                _tell(name)
                once[name] = extras.SECTIONS[name](arena)
            document = report.build(
                results,
                scale=scale.name,
                rounds=rounds,
                records=records,
                record_bytes=sum(file.stat().st_size for file in page_files(pages, "new")) // records,
                encoding=arguments.encoding,
                server_version=postgres.server.version,
                settings=postgres.settings(),
                machine=machine,
                extras=once,
            )
    print(text(document))
    for file in report.save(document, arguments.output):
        _tell(f"kept {file.name}")
    if arguments.output == report.RESULTS and not arguments.quick:
        report.rewrite_documents()
    return 1 if results.unequal else 0


def _section(arena: Arena, name: str, *, rounds: int) -> str:
    if name != FAST:
        return text({name: extras.SECTIONS[name](arena)})
    results = Results()
    entries = [*(entry for entry in CORE if entry.name == PIPELINE), *with_besides(FAST_PEERS)]
    for number in range(1, rounds + 1):
        _tell(f"round {number} of {rounds}")
        run_round(arena, entries, results, number=number)
    told = text({"ratios": list(map(asdict, figures.ratios(results))), "costs": list(map(asdict, figures.costs(results)))})
    return f"{told}\nUnequal: {', '.join(results.unequal) or 'none'}. Did not run: {results.not_run or 'none'}."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="a smoke run of seconds: its figures say nothing")
    sizes.add_argument(
        "--large", action="store_true", help="many collections, a million records and tables of ten million rows; no peers"
    )
    parser.add_argument(
        "--only", choices=[*extras.SECTIONS, FAST, FIRST_LOAD], help="one section by itself, printed and not kept"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="only this and another checkout's pipeline, and their ratios; with --only ticks or first_load: that of both",
    )
    parser.add_argument("--rounds", type=int, help="how often everything is repeated")
    parser.add_argument("--records", type=int, help="records of a round; slow peers get fewer")
    parser.add_argument("--no-peers", action="store_true", help="the limit and the pipeline only")
    parser.add_argument("--encoding", choices=sorted(COMPRESS), default="zstd", help="how the API compresses its pages")
    parser.add_argument("--output", type=Path, default=report.RESULTS, help="the folder for JSON, text and SVG")
    parser.add_argument("--fill-in", action="store_true", help="measure nothing: fill the kept figures into README and docs")
    return parser


def _tell(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
