"""This door gives the IO manager for assets of your own."""

from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager

__all__ = ["PostgresMergeIOManager"]
