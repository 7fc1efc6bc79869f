"""This module reads the shipped presets, each of which says in YAML how the collections of one provider are read from its own API."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from sequin_pipeline.declare.rest_models import PresetModel
from sequin_pipeline.declare.yaml_text import LOADER

FOLDER = Path(__file__).parent / "presets"


@cache
def presets() -> Mapping[str, PresetModel]:
    """Returns all presets by name."""
    # The loader is one of yaml's safe ones.
    return {
        file.stem: PresetModel.model_validate(yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER))  # noqa: S506
        for file in sorted(FOLDER.glob("*.yaml"))
    }
