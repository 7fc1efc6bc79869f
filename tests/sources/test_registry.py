"""The kinds of sources that a defs.yaml can name: all there, opened from the environment, and refused when it lacks something."""

from typing import get_args

import pytest

from sequin_pipeline.catalog import SourceDeclaration, SourceKindName
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.registry import KINDS, open_source


def test_every_name_that_can_be_declared_is_a_kind() -> None:
    assert set(KINDS) == set(get_args(SourceKindName))


def test_the_records_api_is_opened_with_or_without_a_token() -> None:
    for token in ({}, {"SEQUIN_API_TOKEN": "secret"}):
        source = open_source(SourceDeclaration("sequin"), {"SEQUIN_API_URL": "https://api.example/", **token})

        assert source.identity == SourceIdentity("sequin", "https://api.example")
        assert (source.can_reread, source.observes_time) == (True, False)
        assert "secret" not in repr(source)


@pytest.mark.parametrize("environment", [{}, {"SEQUIN_API_URL": " "}])
def test_a_missing_variable_is_named_before_anything_is_sent(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_source(SourceDeclaration("sequin"), environment)

    assert str(refused.value) == (
        "source 'sequin' needs SEQUIN_API_URL, which the environment does not have: set it, or name another source in the defs.yaml"
    )
