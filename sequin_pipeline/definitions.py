"""This door gives the code location that Dagster loads."""

from sequin_pipeline.orchestration.definitions import defs

__all__ = ["defs"]
