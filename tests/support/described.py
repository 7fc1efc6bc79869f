"""Dagster's descriptions of the types of components, made once for many tests."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest


@pytest.fixture(scope="package", autouse=True)
def types_described_once() -> Iterator[None]:
    """Whenever definitions are loaded, Dagster describes every type of component anew, for a tenth of a second: they stay the same."""
    import dagster as dg  # here, so that other tests do not wait for it
    from dagster.components.core import load_defs

    described = load_defs.get_library_json_enriched_defs(None).metadata

    def enriched(tree: dg.ComponentTree | None) -> dg.Definitions:
        return dg.Definitions(metadata=described, component_tree=tree)

    with patch.object(load_defs, "get_library_json_enriched_defs", enriched):
        yield
