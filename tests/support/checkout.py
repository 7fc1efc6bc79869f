"""Where the checkout lies, for tests that read its documents, examples or definitions, or start processes in it."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
