"""An empty table for each test."""

import pytest

pytest.register_assert_rewrite("tests.faults.landing")

from tests.faults.landing import Landing  # noqa: E402 - after the line that makes its assertions speak


@pytest.fixture
def landing(warehouse_url: str) -> Landing:
    return Landing(warehouse_url)
