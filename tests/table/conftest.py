"""The warehouse of tests about tables, which are made together with the ledger."""

import pytest


@pytest.fixture
def warehouse_url(empty_url: str) -> str:
    """Of an empty database: who makes the ledger, and what becomes of it then, matters here."""
    return empty_url
