"""These checks are yielded by an asset's own step, on what this run read and wrote.

The declarations and results are here; whoever writes counts what was found (`Findings`). Checks over whole tables are in
table_checks.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.counts import FATES, Counts
from sequin_pipeline.ledger.drift import Drift
from sequin_pipeline.ledger.held_deletes import HeldDeletes, accepting

DESCRIPTIONS: Mapping[str, str] = {
    "conservation": "Every fetched record was inserted, updated, deleted, unchanged, stale, duplicate, rejected or forgotten: none was "
    "lost.",
    "open_rejects": "The collection has no open rejects. Stays red until each is fixed, replayed or discarded.",
    "required_columns": "Every record of this run that carries an object has the values that the declaration requires.",
    "drift": "The fields of the provider's objects are those that earlier runs saw (at most 200 records a run are looked into).",
    "deletes_within_limit": "No listing lacks so many rows that somebody has to look before they are marked as deleted. Stays red until "
    "that is accepted, or a later listing has them.",
}


class Waiting(Protocol):
    """These are what waits in the ledger, whatever a run does.

    `open_rejects` counts the collection's rejects over all runs, and `reject_examples` are a few record ids with their reasons.
    """

    @property
    def open_rejects(self) -> int: ...
    @property
    def reject_examples(self) -> Sequence[tuple[str, str]]: ...
    @property
    def held_deletes(self) -> Sequence[HeldDeletes]: ...


class Findings(Waiting, Protocol):
    """These are what a run found out about its records, and what waits when it ends.

    `required_missing` counts this run's records by column.
    """

    @property
    def counts(self) -> Counts: ...
    @property
    def required_missing(self) -> Mapping[str, int]: ...
    @property
    def drift(self) -> Drift: ...


def check_names(collection: Collection) -> list[str]:
    """Returns the names of a collection's checks; only what is listed as a whole can lack rows."""
    return [name for name in DESCRIPTIONS if name != "deletes_within_limit" or collection.is_listed]


def build_check_specs(key: dg.AssetKey, collection: Collection) -> list[dg.AssetCheckSpec]:
    """Builds the checks of a collection's asset; none blocks what is downstream."""
    return [dg.AssetCheckSpec(name, asset=key, description=DESCRIPTIONS[name]) for name in check_names(collection)]


def check_keys(key: dg.AssetKey, collection: Collection) -> list[dg.AssetCheckKey]:
    """Returns the keys of the checks of a collection's asset."""
    return [dg.AssetCheckKey(key, name) for name in check_names(collection)]


def check_results(key: dg.AssetKey, collection: Collection, findings: Findings) -> Iterator[dg.AssetCheckResult]:
    """Yields one result for each spec, in their order."""
    for check in (conservation, open_rejects, required_columns, drift, deletes_within_limit):
        if check.__name__ in check_names(collection):
            yield check(key, findings)


def waiting_results(key: dg.AssetKey, collection: Collection, waiting: Waiting) -> Iterator[dg.AssetCheckResult]:
    """Yields the results that hold without a run: those of what waits in the ledger."""
    for check in (open_rejects, deletes_within_limit):
        if check.__name__ in check_names(collection):
            yield check(key, waiting)


def conservation(key: dg.AssetKey, findings: Findings) -> dg.AssetCheckResult:
    """Checks that no record was lost: an error, never a warning, since that is the one thing that must not happen."""
    fates = {fate: getattr(findings.counts, fate) for fate in FATES}
    fetched, accounted = findings.counts.fetched, sum(fates.values())
    return dg.AssetCheckResult(
        check_name="conservation",
        asset_key=key,
        passed=fetched == accounted,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{fetched} fetched, {accounted} accounted for",
        metadata={"fetched": fetched, **fates},
    )


def open_rejects(key: dg.AssetKey, findings: Waiting) -> dg.AssetCheckResult:
    """Checks for open rejects: an error, though they are kept whole and the rest is committed, since somebody has to fix them."""
    examples = "; ".join(f"`{record_id}`: {reason}" for record_id, reason in findings.reject_examples)
    waiting = "1 open reject" if findings.open_rejects == 1 else f"{findings.open_rejects} open rejects"
    return dg.AssetCheckResult(
        check_name="open_rejects",
        asset_key=key,
        passed=findings.open_rejects == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{waiting} ({examples}). `sequin-pipeline rejects list {key.to_user_string()}` shows all"
        if findings.open_rejects
        else "no open rejects",
        metadata={"open_rejects": findings.open_rejects},
    )


def required_columns(key: dg.AssetKey, findings: Findings) -> dg.AssetCheckResult:
    """Checks that no required value is missing: an error, since such a record was rejected."""
    missing = {column: count for column, count in findings.required_missing.items() if count}
    described = ", ".join(f"{column} in {count}" for column, count in missing.items())
    return dg.AssetCheckResult(
        check_name="required_columns",
        asset_key=key,
        passed=not missing,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"records of this run without a required value: {described}" if missing else "no required value is missing",
        metadata={"missing": dg.MetadataValue.json(missing)},
    )


def drift(key: dg.AssetKey, findings: Findings) -> dg.AssetCheckResult:
    """Checks whether the objects' fields changed: a warning, since fields that are not declared land in `data` in any case."""
    changes: Mapping[str, list[str] | dict[str, str]] = {
        "new": list(findings.drift.new),
        "gone": list(findings.drift.gone),
        "changed": dict(findings.drift.changed),
    }
    described = "; ".join(f"{what}: {', '.join(fields)}" for what, fields in changes.items() if fields)
    return dg.AssetCheckResult(
        check_name="drift",
        asset_key=key,
        passed=not described,
        severity=dg.AssetCheckSeverity.WARN,
        description=described or "the fields are those that earlier runs saw",
        metadata={what: dg.MetadataValue.json(fields) for what, fields in changes.items()},
    )


def deletes_within_limit(key: dg.AssetKey, findings: Waiting) -> dg.AssetCheckResult:
    """Checks for held deletes: an error, since either the source hides rows that are there, or the table shows some that are gone."""
    label, held = "/".join(key.path), findings.held_deletes
    rows = max((one.rows for one in held), default=0)
    metadata: dict[str, dg.MetadataValue[Any]] = {"held_deletes": dg.MetadataValue.int(sum(one.rows for one in held))}
    if held:
        by_sync = {
            one.sync_id: {"rows": one.rows, "live_rows": one.live_rows, "limit": one.limit, "share": one.share} for one in held
        }
        metadata |= {
            "by_sync": dg.MetadataValue.json(by_sync),
            "examples": dg.MetadataValue.json({one.sync_id: list(one.examples) for one in held}),
            "command": dg.MetadataValue.md(f"`{accepting(label, held)}`"),
            "run_config": dg.MetadataValue.json({"ops": {key.to_python_identifier(): {"config": {"accept_deletes": rows}}}}),
        }
    return dg.AssetCheckResult(
        check_name="deletes_within_limit",
        asset_key=key,
        passed=not held,
        severity=dg.AssetCheckSeverity.ERROR,
        description="\n".join(one.told(label) for one in held) or "no deletes are held",
        metadata=metadata,
    )
