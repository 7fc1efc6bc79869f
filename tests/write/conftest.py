"""Batches of these tests go every way, each test's another one."""

import pytest


@pytest.fixture(autouse=True)
def written_every_way(every_way: None) -> None:
    """Each way is always right."""
