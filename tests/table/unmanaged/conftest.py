"""A database with a schema of an application."""

import pytest

from tests.support.reading import execute


@pytest.fixture
def app_url(warehouse_url: str) -> str:
    """The libpq URL of a database that has the schema `app`, and nothing in it."""
    execute(warehouse_url, "create schema app")
    return warehouse_url
