"""Fixtures of the tests of what knows Dagster."""

from tests.support.described import types_described_once

__all__ = ["types_described_once"]
