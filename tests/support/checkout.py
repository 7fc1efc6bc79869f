"""Where the checkout lies, for tests that read its documents, examples or definitions, or start processes in it."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def python_path(folder: Path) -> str:
    """PYTHONPATH for a process that searches this folder first, and then where all processes of the tests do."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
