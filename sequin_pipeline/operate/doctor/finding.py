"""This module defines what a check of the doctor looks at, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sequin_pipeline.catalog import Collection, SourceDeclaration
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.sources.registry import missing_variables

Level = Literal["ok", "advice", "warning", "problem"]
"""Advice is what would make it faster; nothing is wrong without."""

MAX_SKEW = timedelta(seconds=5)
"""Two clocks may differ by this.

Beyond it ages and lags are reported wrong, and heartbeats look older than they are; no row depends on a clock.
"""


@dataclass(frozen=True)
class Finding:
    """A finding is one line; `fix` is what to do, empty where there is nothing to do."""

    check: str
    level: Level
    said: str
    fix: str = ""


@dataclass(frozen=True)
class Patient:
    """The patient is what the checks look at.

    `environment` holds secrets; in it the records API is named, also when it is the sandbox (`api_url` None: none is needed, or the
    sandbox does not run).
    """

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    collections: Mapping[str, Collection]
    api_url: str | None = field(repr=False)


def lacking(check: str, provider: str, declaration: SourceDeclaration, patient: Patient) -> Finding | None:
    """Returns what to say where the environment lacks a variable of the provider's source, None where it has all of them."""
    missing = missing_variables(declaration, patient.environment)
    if not missing:
        return None
    said = f"{provider} is read from {declaration.kind}, which needs {' and '.join(missing)}"
    return Finding(check, "problem", said, "set it in the environment or in .env")


def clock_finding(check: str, theirs: datetime, ours: datetime) -> Finding:
    """Compares two clocks; `ours` is the moment at which `theirs` was told."""
    skew = theirs - ours
    seconds = abs(skew.total_seconds())
    if abs(skew) <= MAX_SKEW:
        return Finding(check, "ok", f"within {MAX_SKEW.seconds} s of ours")
    said = f"{seconds:,.0f} s {'ahead of' if skew > timedelta() else 'behind'} ours: ages and lags are wrong by that much"
    return Finding(check, "warning", said, "set both machines by the same time server (NTP)")
