"""This door gives the component that a defs.yaml names."""

from sequin_pipeline.orchestration.component import CollectionSync

__all__ = ["CollectionSync"]
