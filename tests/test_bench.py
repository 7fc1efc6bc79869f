"""The bench: that a run of it measures everybody and compares every table, and what is made of its measurements."""

import json
import platform
import subprocess
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

import pytest

from bench import figures, report, tables
from bench.records import REVISIONS, record
from bench.rounds import Measurement, Results
from tests.support.checkout import CHECKOUT


def measurement(name: str, round_number: int, seconds: float, *, phase: str = "new", records: int = 100) -> Measurement:
    return Measurement(
        name=name,
        phase=phase,
        round=round_number,
        records=records,
        seconds=seconds,
        client_cpu_seconds=seconds / 2,
        server_cpu_seconds=seconds / 2,
        wal_bytes=0,
        transactions=1,
        peak_rss_bytes=1,
        notes={"requests": 1} if phase == "nothing_new" else {},
    )


@pytest.mark.processes
def test_quick_bench_measures_every_phase_and_section_and_finds_all_tables_equal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--no-peers", "--output", str(tmp_path)]

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "quick.json").read_text())
    assert document["unequal"] == []
    assert document["compared"] == 19
    assert document["not_run"] == {}
    assert {(cost["name"], cost["phase"]) for cost in document["costs"]} == {
        *product(
            ("limit", "limit_two", "pipeline", "pipeline_two", "pipeline_json"), ("new", "changed", "one_percent", "replay")
        ),
        *product(("copy", "copy_two", "copy_json"), ("new",)),
    }
    assert all(cost["records_per_second"] > 0 for cost in document["costs"])
    assert document["nothing_new"]["requests"] == 1
    assert [(each["kind"], each["records"]) for each in document["sources"]] == [
        ("sequin", 2_000),
        ("sequin_consumer", 2_000),
        ("sequin_stream", 2_000),
        ("stripe", 2_000),
        ("rest", 2_000),
    ]
    assert document["dagster"]["records"] == 2_000
    many = tables.text({"many": document["many"]})
    assert [line.split("|")[1].strip() for line in many.splitlines() if line.startswith("|")][2:] == [
        "first load",
        "tick, nothing new",
        "all again, each told to wait 1 s",
        "limit",
    ]
    assert "2 collections of 2,000 records in one run" in many
    assert "Of 2 answers 429 with `Retry-After`, 0 were asked again too early." in many
    assert tables.text(document) == (tmp_path / "quick.txt").read_text()
    assert (tmp_path / "quick.svg").read_text().startswith("<svg ")


def test_ticks_of_two_checkouts_stand_beside_each_other_with_their_ratio() -> None:
    def measured(cpu_seconds: float, runs: int) -> dict[str, object]:
        tick = {"ticks": 2, "runs": runs, "requests": 40, "cpu_seconds_a_tick": cpu_seconds, "seconds_a_tick": 1.0}
        return {"name": "ticks", "collections": 20, "idle_cpu_a_second": 0.02, "nothing_new": tick, "news": tick}

    told = tables.block("ticks", {"ticks": [measured(0.4, 0), measured(16.0, 2)]})

    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines()[2:5]] == [
        ["CPU used while nothing is due", "0.020", "0.020", "1.00"],
        ["CPU s of a tick with nothing new", "0.400", "16.000", "0.03"],
        ["CPU s of a tick with news in all", "0.400", "16.000", "0.03"],
    ]
    assert tables.block("ticks", {}) == ""


def test_kept_results_name_no_host_and_no_path() -> None:
    kept = "".join(file.read_text(encoding="utf-8") for file in report.RESULTS.iterdir())

    assert platform.node() not in kept
    assert str(CHECKOUT) not in kept
    assert str(Path.home()) not in kept


@pytest.mark.parametrize("path", report.DOCUMENTS, ids=lambda path: path.name)
def test_documents_hold_the_kept_figures(path: Path) -> None:
    page = path.read_text(encoding="utf-8")

    assert "<!-- bench: " in page
    assert report.fill_in(page, report.load()) == page, "run `python -m bench --fill-in`"


def test_ratio_is_taken_within_a_round_and_the_median_over_the_rounds_counts() -> None:
    results = Results(
        measurements=[
            measurement("beside_dlt", 1, 1.0),
            measurement("beside_dlt", 2, 4.0),
            measurement("beside_dlt", 3, 2.0),
            measurement("dlt", 1, 5.0),
            measurement("dlt", 2, 4.0),
            measurement("dlt", 3, 8.0),
        ]
    )

    [ratio] = figures.ratios(results)

    assert (ratio.measure, ratio.phase) == ("times as fast as dlt, merge by upsert", "new")
    assert ratio.rounds == (5.0, 1.0, 4.0)
    assert ratio.median == 4.0
    assert ratio.best == 4.0
    assert ratio.cpu == 4.0


def test_contestant_with_fewer_records_is_compared_by_what_one_record_takes() -> None:
    results = Results(measurements=[measurement("beside_sling", 1, 1.0), measurement("sling", 1, 1.0, records=10)])

    [ratio] = figures.ratios(results)

    assert ratio.median == 10.0


def test_records_are_the_same_at_every_run_and_change_only_with_their_revision() -> None:
    first, again = record(41, 0, of=1_000), record(41, 0, of=1_000)
    changed = json.loads(record(41, 1, of=1_000))

    assert first == again
    assert 2_200 < len(first) < 2_700
    original = json.loads(first)
    assert changed["id"] == original["id"]
    assert changed["updated_idx"] - original["updated_idx"] == 10**12
    assert {name for name in original["data"] if original["data"][name] != changed["data"][name]} == {
        "current_period_end",
        "current_period_start",
        "items",
        "latest_invoice",
        "metadata",
        "status",
    }


def test_one_record_in_a_hundred_changes_in_the_last_revision() -> None:
    revisions = [REVISIONS["one_percent"](number) for number in range(1_000)]

    assert revisions.count(2) == 10
    assert revisions.count(1) == 990


def test_summary_names_the_fastest_peer_of_each_kind_and_none_that_lacks_a_key() -> None:
    peers = {"sling": 5.0, "dlt": 9.0, "dlt_arrow": 4.0, "dlt_arrow_loose": 3.0, "pandas": 6.0}
    found = [measurement(name, 1, seconds) for name, seconds in peers.items()]
    found += [measurement(f"beside_{name}", 1, 2.0) for name in (*peers, "dlt_arrow_json")]
    results = Results(measurements=[*found, measurement("copy", 1, 1.0), measurement("pipeline", 1, 2.0)])
    document = {
        "ratios": [asdict(ratio) for ratio in figures.ratios(results)],
        "costs": [asdict(cost) for cost in figures.costs(results)],
        "machine": {"cpus": 2},
        "rounds": 1,
        "records": 100,
        "record_bytes": 2483,
        "taken_on": "2026-12-01",
    }

    summary = tables.block("summary", document)

    assert [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in summary.splitlines() if line.startswith("|")][
        2:
    ] == [
        ("share of the limit, one connection", "0.50"),
        ("times as fast as dlt, Arrow and parquet (ADBC), unique key", "2.00"),
        ("times as fast as dlt, Arrow and parquet (ADBC), unique key, data: json", "2.00"),
        ("times as fast as pandas to_sql and upsert", "3.00"),
    ]
