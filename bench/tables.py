"""From a document of figures to tables for people: aligned Markdown, which reads well as plain text too. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.contestants import ENTRIES, PEER_ENTRIES, PHASE_LABELS

Document = Mapping[str, Any]  # what JSON holds
CONNECTIONS_A_COLLECTION = 3
"""One that writes, one that shows life, and now and then a third."""
PROCESS_MIB = 300
"""Of each collection that is read at once, and of the run."""
SUMMARY_PHASES = ("new", "changed", "replay")
STAGES = ("fetch", "normalize", "wait", "encode", "copy", "merge", "ledger", "commit", "total")


def text(document: Document) -> str:
    """Everything that the document has, ratios first."""
    titles = {
        "ratios": "How the pipeline stands to the limit and to other tools (wall time; by CPU: of client and server together)",
        "costs": "What a record costs",
        "stages": "Where a record's time goes in the pipeline (µs of wall time a record; stages overlap)",
        "sources": "What arrives of what a source alone delivers",
        "rest": "A REST API by declaration, and dlt's own source of it",
        "rest_memory": "Memory of a long list of a REST API",
        "many": "Many collections in one run",
        "ticks": "A schedule that ticks every minute: CPU of daemon, code server, runs and Postgres",
        "once": "Measured apart",
        "growth": "Growth",
        "children": "Child tables, five elements a record",
        "shards": "One collection by several runs beside each other, from a source that takes its time",
        "history": "Every version kept: what a record costs with a history table, beside dlt's scd2",
        "setup": "How this was measured",
    }
    found = {name: block(name, document) for name in titles}
    return "\n\n".join(f"{title}\n\n{found[name]}" for name, title in titles.items() if found[name]) + "\n"


def block(name: str, document: Document) -> str:
    """What stands between a document's marks of that name; empty where nothing of it was measured."""
    return _BLOCKS[name](document)


def _summary(document: Document) -> str:
    """One row a comparison, phases beside each other; of the peers only the fastest of each kind."""
    left_out = {entry.name for entry in PEER_ENTRIES} - _fastest(document)
    by_measure: dict[str, dict[str, str]] = {}
    for ratio in document["ratios"]:
        if ratio["name"] not in left_out:
            phase = "replay" if ratio["phase"] == "known" else ratio["phase"]
            by_measure.setdefault(ratio["measure"], {})[phase] = _number(ratio["median"])
    rows = [[measure, *(found.get(phase, "") for phase in SUMMARY_PHASES)] for measure, found in by_measure.items()]
    machine = document["machine"]
    note = (
        f"Medians of {document['rounds']} rounds of {document['records']:,} records of {document['record_bytes']:,} bytes on "
        f"{machine['cpus']} CPUs, {document['taken_on']}; `make bench` measures again."
    )
    return f"{_table(['', *(PHASE_LABELS[phase] for phase in SUMMARY_PHASES)], rows)}\n\n{note}"


def _fastest(document: Document) -> set[str]:
    """Of each kind of peer, the one with the most new records a second."""
    rates = {cost["name"]: cost["records_per_second"] for cost in document["costs"] if cost["phase"] == "new"}
    by_kind: dict[str, str] = {}
    for entry in PEER_ENTRIES:
        if entry.kind and entry.name in rates and rates[entry.name] > rates.get(by_kind.get(entry.kind, ""), 0.0):
            by_kind[entry.kind] = entry.name
    return set(by_kind.values())


def _ratios(document: Document) -> str:
    rows = [
        [
            ratio["measure"],
            PHASE_LABELS[ratio["phase"]],
            _number(ratio["median"]),
            _number(ratio["best"]),
            f"{_number(min(ratio['rounds']))} to {_number(max(ratio['rounds']))}",
            "" if ratio["cpu"] is None else _number(ratio["cpu"]),
        ]
        for ratio in document.get("ratios", ())
    ]
    return _table(["", "records", "median", "best/best", "rounds", "by CPU"], rows)


def _costs(document: Document) -> str:
    rows = [
        [
            cost["label"],
            PHASE_LABELS[cost["phase"]],
            f"{cost['records']:,}",
            f"{cost['records_per_second']:,.0f}",
            f"{cost['best_records_per_second']:,.0f}",
            f"{cost['client_us']:.1f}",
            "" if cost["server_us"] is None else f"{cost['server_us']:.1f}",
            f"{cost['wal_bytes']:,.0f}",
            f"{cost['peak_rss_bytes'] / 2**20:,.0f}",
        ]
        for cost in document.get("costs", ())
    ]
    heads = ["", "records", "measured with", "records/s", "best", "client µs", "server µs", "WAL B", "peak MiB"]
    return _table(heads, rows)


def _stages(document: Document) -> str:
    rows = [
        [PHASE_LABELS[phase], *(f"{found.get(name, 0.0):.1f}" for name in STAGES)]
        for phase, found in document.get("stages", {}).items()
        if found
    ]
    return _table(["", *STAGES], rows)


def _sources(document: Document) -> str:
    rows = [
        [
            f"`{each['kind']}`",
            f"{each['records']:,.0f}",
            f"{each['delay_seconds'] * 1000:.0f}",
            f"{each['alone_records_per_second']:,.0f}",
            f"{each['records_per_second']:,.0f}",
            f"{each['share']:.2f}",
        ]
        for each in document.get("sources", ())
    ]
    return _table(["source", "records", "ms an answer", "alone, records/s", "into the table, records/s", "share"], rows)


def _shards(document: Document) -> str:
    rows = [
        [each["label"], f"{each['records']:,}", f"{each['seconds']:.0f}", f"{each['requests']:,}"]
        for each in document.get("shards", ())
    ]
    return _table(["", "records", "seconds", "requests"], rows)


def _histories(document: Document) -> str:
    rows = [
        [
            each["label"],
            each["phase"],
            f"{each['records']:,}",
            f"{each['records_per_second']:,.0f}",
            f"{each['client_us']:.1f}",
            "" if each["server_us"] is None else f"{each['server_us']:.1f}",
            f"{each['wal_bytes'] / each['records']:,.0f}",
            f"{each['versions']:,}",
        ]
        for each in document.get("history", ())
    ]
    return _table(["", "", "records", "records/s", "client µs", "server µs", "WAL B", "versions"], rows)


def _rest(document: Document) -> str:
    rows = [
        [
            each["label"],
            f"{each['limit']:,}",
            f"{each['records']:,}",
            f"{each['records_per_second']:,.0f}",
            f"{each['client_us']:.1f}",
            f"{each['peak_rss_bytes'] / 2**20:,.0f}",
        ]
        for each in document.get("rest", ())
    ]
    return _table(["", "objects a page", "records", "records/s", "client µs", "peak MiB"], rows)


def _rest_memory(document: Document) -> str:
    rows = [[f"{each['records']:,}", f"{each['peak_rss_bytes'] / 2**20:,.0f}"] for each in document.get("rest_memory", ())]
    return _table(["records", "peak MiB"], rows)


def _children(document: Document) -> str:
    rows = [
        [
            each["phase"],
            each["children"],
            f"{each['records_per_second']:,.0f}",
            f"{each['rows_per_second']:,.0f}",
            _number(each["share"]),
        ]
        for each in document.get("children", ())
    ]
    return _table(["records", "children", "records/s", "rows/s", "share of the bare speed a row"], rows)


def _many(document: Document) -> str:
    if not (many := document.get("many")):
        return ""
    labels = {
        "new": "first load",
        "nothing_new": "tick, nothing new",
        "replay": f"all again, each told to wait {many['retry_after_seconds']} s",
    }
    rows = [
        [
            labels[each["phase"]],
            f"{each['seconds']:.1f}",
            "" if each["server_cpu_seconds"] is None else f"{_used(each, many['cpus']):.0%}",
            f"{each['warehouse_connections']}",
            f"{each['dagster_connections']}",
            f"{each['requests_in_flight']}",
            f"{each['memory_bytes'] / 2**20:,.0f}",
        ]
        for each in many["phases"]
    ]
    at_once = min(many["pool_limit"], many["cpus"])
    heads = ["", "seconds", "of the CPUs", "connections", "Dagster's", "requests in flight", "peak MiB"]
    limits = ["limit", "", "", f"{at_once * CONNECTIONS_A_COLLECTION}", "", f"{at_once}", f"{(at_once + 1) * PROCESS_MIB:,}"]
    refused = sum(each["refused"] for each in many["phases"])
    early = sum(each["early"] for each in many["phases"])
    note = (
        f"{many['collections']} collections of {many['records']:,} records in one run, {at_once} at once (the smaller of "
        f"{many['cpus']} CPUs and the pool's {many['pool_limit']}). Of {refused} answers 429 with `Retry-After`, {early} were asked "
        "again too early."
    )
    return f"{_table(heads, [*rows, limits])}\n\n{note}"


def _used(phase: Mapping[str, Any], cpus: int) -> float:
    """The share of all processors, client and server together."""
    used: float = (phase["client_cpu_seconds"] + phase["server_cpu_seconds"]) / (phase["seconds"] * cpus)
    return used


def _once(document: Document) -> str:
    lines = []
    if nothing := document.get("nothing_new"):
        lines.append(
            f"A run that finds nothing new: {nothing['requests']:.0f} request, {nothing['transactions']:.0f} transactions, "
            f"{nothing['wal_bytes'] / 1024:,.1f} KiB of WAL, {nothing['seconds'] * 1000:,.0f} ms."
        )
    if dagster := document.get("dagster"):
        lines.append(
            f"Through Dagster, runs and events in Postgres: {dagster['more_seconds']:.1f} s more a run than the same "
            f"{dagster['records']:,.0f} records in a plain process ({dagster['plain_seconds']:.1f} s), "
            f"peak {dagster['peak_rss_bytes'] / 2**20:,.0f} MiB."
        )
    return _list(lines)


def _ticks(document: Document) -> str:
    """One column a checkout, and how they stand to each other."""
    measured = document.get("ticks", ())
    if not measured:
        return ""
    costs = {
        "CPU used while nothing is due": [one["idle_cpu_a_second"] for one in measured],
        "CPU s of a tick with nothing new": [one["nothing_new"]["cpu_seconds_a_tick"] for one in measured],
        "CPU s of a tick with news in all": [one["news"]["cpu_seconds_a_tick"] for one in measured],
    }
    rows = [[label, *(f"{one:.3f}" for one in found), f"{found[0] / found[-1]:.2f}"] for label, found in costs.items()]
    for name in ("ticks", "runs", "requests"):
        rows.append([f"{name} with nothing new", *(str(one["nothing_new"][name]) for one in measured), ""])
    heads = ["", *("here", "beside")[: len(measured)], "ratio"]
    return f"{_table(heads, rows)}\n\n{measured[0]['collections']} collections."


def _growth(document: Document) -> str:
    parts = []
    if memory := document.get("memory"):
        rows = [
            [
                f"{each['records']:,.0f}",
                f"{each['peak_rss_bytes'] / 2**20:,.0f}",
                f"{each['records_per_second']:,.0f}",
                f"{each['client_us']:.1f}",
            ]
            for each in memory
        ]
        parts.append(_table(["records in the stream", "peak MiB", "records/s", "client µs"], rows))
    if growth := document.get("growth"):
        rows = [
            [
                f"{each['rows']:,.0f}",
                PHASE_LABELS["changed" if each["is_changed"] else "new"],
                f"{each['records_per_second']:,.0f}",
                "" if each["server_us"] is None else f"{each['server_us']:.1f}",
            ]
            for each in growth
        ]
        parts.append(_table(["rows of others in the table", "records", "records/s", "server µs"], rows))
    return "\n\n".join(parts)


def _setup(document: Document) -> str:
    if "machine" not in document:
        return ""
    machine = document["machine"]
    labels = {entry.name: entry.label for entry in ENTRIES}
    equal = "all equal" if not document["unequal"] else "UNEQUAL: " + ", ".join(document["unequal"])
    lines = [
        f"Taken on {document['taken_on']}, scale {document['scale']!r}: {document['rounds']} rounds of {document['records']:,} records "
        f"of {document['record_bytes']:,} bytes; the API serves them ready-made ({document['encoding']}) from the same machine.",
        f"Machine: {machine['cpus']} CPUs ({machine['model']}), {machine['memory_gib']} GiB, {machine['system']}; load when it began: "
        f"{machine['load']:.1f}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + ".",
        "Postgres: " + ", ".join(f"{name} {value}" for name, value in sorted(document["settings"].items())) + ".",
        f"Tables compared with the pipeline's, row by row: {document['compared']}, {equal}.",
    ]
    lines += [f"Did not run: {labels.get(name, name)}: {reason}." for name, reason in document["not_run"].items()]
    return _list(lines)


_BLOCKS: Mapping[str, Callable[[Document], str]] = {
    "summary": _summary,
    "ratios": _ratios,
    "costs": _costs,
    "stages": _stages,
    "sources": _sources,
    "rest": _rest,
    "rest_memory": _rest_memory,
    "many": _many,
    "ticks": _ticks,
    "once": _once,
    "growth": _growth,
    "shards": _shards,
    "history": _histories,
    "children": _children,
    "setup": _setup,
}


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers to the right, everything else to the left; empty without rows."""
    if not rows:
        return ""
    is_number = [all(_is_numeric(row[at]) for row in rows) for at in range(len(heads))]
    widths = [max(3, *(len(row[at]) for row in [heads, *rows])) for at in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, is_number, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (width - 1) + ":") if to_right else "-" * width for width, to_right in zip(widths, is_number, strict=True)]
    return "\n".join([line(heads), f"| {' | '.join(rule)} |", *map(line, rows)])


def _is_numeric(cell: str) -> bool:
    return cell == "" or cell[0].isdigit()
