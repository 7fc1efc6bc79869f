"""This module tells which stage sets the pace of a run, from the seconds of its stages. Pure.

Stages overlap: pages are fetched and turned into columns while the ones before are written, so that the shares of a run's time add up
to more than all of it, and the greatest one is what the run cannot be faster than.
"""

from collections.abc import Mapping

LEAST_SECONDS = 1.0
"""Below, connecting and taking over the cursor are most of a run."""
LEAST_SHARE = 0.5
"""Where no stage has as much, several take turns, and none of them alone would make the run faster."""

STAGES: Mapping[str, tuple[str, ...]] = {
    "source": ("wait",),
    "client": ("normalize", "encode"),
    "server": ("copy", "merge", "versions", "ledger"),
    "commit": ("commit",),
}
"""What each is made of: seconds that the run waited for pages; of this process; of Postgres' work, and of its disk."""
IN_EACH_LANE = ("encode", "copy", "merge", "versions", "ledger", "commit")

SAID: Mapping[str, str] = {
    "source": "waiting for its pages",
    "client": "turning pages into columns and bytes",
    "server": "copying, merging and keeping the ledger",
    "commit": "commits",
}


def bottleneck(seconds: Mapping[str, float], *, lanes: int) -> str | None:
    """Returns the sentence, with each stage's share of the time, the greatest first; None of a run too short to tell."""
    total = seconds.get("total", 0.0)
    if total < LEAST_SECONDS:
        return None
    shares = {
        stage: sum(seconds.get(part, 0.0) / (lanes if part in IN_EACH_LANE else 1) for part in parts) / total
        for stage, parts in STAGES.items()
    }
    (slowest, share), *others = sorted(shares.items(), key=lambda one: -one[1])
    rest = ", ".join(f"{stage} {_percent(other)}" for stage, other in others)
    if share < LEAST_SHARE:
        return f"no stage alone: {slowest} {_percent(share)}, {rest} of {total:,.1f} s"
    return f"{slowest}: {SAID[slowest]} took {_percent(share)} of {total:,.1f} s ({rest})"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
