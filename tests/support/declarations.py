"""Collections from the text of a declaration, without Dagster around it."""

from datetime import UTC, datetime

import yaml

from sequin_pipeline.catalog import Collection
from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.parse import collections_of
from sequin_pipeline.declare.yaml_models import ProviderModel


def declared(attributes: str) -> tuple[Collection, ...]:
    """What stands below `attributes` of a defs.yaml, as collections; the errors name no place."""
    model = ProviderModel.model_validate(yaml.safe_load(attributes))
    return collections_of(model, Node(lambda path: None), now=datetime(2026, 11, 1, tzinfo=UTC))
