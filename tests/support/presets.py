"""The shipped definitions with one line more: `source: rest`, so that each collection is read by the preset of its provider."""

from pathlib import Path

from tests.support.checkout import CHECKOUT

PRESETS = ("github", "hubspot", "salesforce")


def write_shipped(folder: Path, provider: str, *, more: str = "") -> dict[str, str]:
    """Writes the provider's shipped defs.yaml for its own API; `more` are further attributes. Returns the environment that names it."""
    shipped = (CHECKOUT / "sequin_pipeline" / "defs" / provider / "defs.yaml").read_text(encoding="utf-8")
    declared = shipped.replace(f"  provider: {provider}\n", f"  provider: {provider}\n  source: rest\n{more}")
    assert declared != shipped
    (folder / provider).mkdir(parents=True)
    (folder / provider / "defs.yaml").write_text(declared, encoding="utf-8")
    return {"SEQUIN_COLLECTIONS": str(folder)}
