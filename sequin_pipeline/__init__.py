"""This package merges record pages of an API into Postgres tables, by Dagster."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sequin_pipeline.orchestration.definitions import build_defs

__all__ = ["build_defs"]


def __getattr__(name: str) -> object:
    # Only when somebody asks for it: every other import of the package would load Dagster first.
    if name == "build_defs":
        from sequin_pipeline.orchestration.definitions import build_defs

        return build_defs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
