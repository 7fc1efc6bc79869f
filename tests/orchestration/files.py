"""Builders of folders with defs.yaml files."""

from pathlib import Path

HEAD = """\
type: sequin_pipeline.component.CollectionSync
attributes:
"""


def write(folder: Path, **providers: str) -> dict[str, str]:
    """Writes `<folder>/<name>/defs.yaml` for each, with HEAD's two lines first; returns the environment that names the folder."""
    for name, attributes in providers.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "defs.yaml").write_text(HEAD + attributes, encoding="utf-8")
    return {"SEQUIN_COLLECTIONS": str(folder)}
