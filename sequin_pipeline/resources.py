"""This door gives the resources for assets of your own."""

from sequin_pipeline.orchestration.resources import SourceResource, WarehouseResource

__all__ = ["SourceResource", "WarehouseResource"]
