"""The chart: records a second of everybody, new and changed, as an SVG drawn by hand, so that nothing must be installed for it."""

from collections.abc import Mapping
from html import escape
from typing import Any

from bench.contestants import PEER_PHASES, PHASE_LABELS, PIPELINE, PIPELINE_JSON, PIPELINE_TWO

WIDTH, LABEL_WIDTH, NUMBER_WIDTH = 900, 260, 70
BAR, GAP, TOP = 11, 12, 48
COLOURS = {"new": "#4263eb", "changed": "#91a7ff"}
OTHERS = {"new": "#868e96", "changed": "#ced4da"}


def chart(document: Mapping[str, Any]) -> str:
    """A bar for each contestant and phase; ours in colour."""
    by_name: dict[str, dict[str, Any]] = {}
    for cost in document["costs"]:
        if cost["phase"] in PEER_PHASES:
            by_name.setdefault(cost["name"], {"label": cost["label"]})[cost["phase"]] = cost["records_per_second"]
    scale = max((each[phase] for each in by_name.values() for phase in PEER_PHASES if phase in each), default=1.0)
    parts, y = [], TOP
    for name, each in by_name.items():
        colours = COLOURS if name in (PIPELINE, PIPELINE_TWO, PIPELINE_JSON) else OTHERS
        phases = [phase for phase in PEER_PHASES if phase in each]
        middle = y + len(phases) * BAR / 2 + 4
        parts.append(f'<text x="{LABEL_WIDTH - 8}" y="{middle:.0f}" text-anchor="end">{escape(each["label"])}</text>')
        for phase in phases:
            width = (WIDTH - LABEL_WIDTH - NUMBER_WIDTH) * each[phase] / scale
            parts.append(f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR - 1}" fill="{colours[phase]}"/>')
            parts.append(f'<text x="{LABEL_WIDTH + width + 5:.1f}" y="{y + BAR - 2}" class="number">{each[phase]:,.0f}</text>')
            y += BAR
        y += GAP
    title = f"Records a second: {PHASE_LABELS['new']} (dark) and {PHASE_LABELS['changed']} (light)"
    machine = document["machine"]
    server = f"Postgres {document['versions']['Postgres']}"
    note = f"{document['record_bytes']:,} bytes a record, {machine['cpus']} CPUs, {server}, {document['taken_on']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">'
        "<style>.number{font-size:9px;fill:#495057}.note{font-size:11px;fill:#495057}</style>"
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>'
        f'<text x="12" y="20" font-size="14">{escape(title)}</text><text x="12" y="36" class="note">{escape(note)}</text>'
        f"{''.join(parts)}</svg>\n"
    )
