"""This model says what may stand below `connector` of a defs.yaml, for `source: airbyte` and `source: singer`."""

from typing import Any

from pydantic import Field

from sequin_pipeline.declare.strict_model import StrictModel


class ConnectorModel(StrictModel):
    """A connector runs as a process of its own, from an environment of its own that you install."""

    command: list[str] = Field(
        min_length=1,
        description="what starts it: the program by its whole path, and arguments that stand before those of each call",
        examples=[["~/connectors/github/bin/source-github"]],
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="its configuration as its maker describes it; {env: NAME} stands for what a variable of the environment holds",
        examples=[{"credentials": {"personal_access_token": {"env": "GITHUB_TOKEN"}}, "repositories": ["octo/alpha"]}],
    )
    options: list[str] = Field(
        default_factory=list,
        description="arguments that stand behind those of each call",
        examples=[["--manifest-path", "/srv/connectors/orders.yaml"]],
    )
