"""An empty table for each test."""

import pytest

from tests.faults.landing import Landing


@pytest.fixture
def landing(warehouse_url: str) -> Landing:
    return Landing(warehouse_url)
