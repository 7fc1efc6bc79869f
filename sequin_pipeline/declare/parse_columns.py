"""This module reads what a defs.yaml says of one column."""

from sequin_pipeline.catalog import Column, Path, parse_path
from sequin_pipeline.declare.node import Node, check_text
from sequin_pipeline.declare.yaml_models import COLUMN_PATTERN, ColumnModel
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.records.fields import RECORD_COLUMNS

SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Postgres refuses these as names of columns (Postgres documentation, 5.6)."""


def parse_column(name: str, model: ColumnModel, node: Node, *, prefix: str) -> Column:
    """Returns a declared column of a collection. Raises CatalogError."""
    if name in RECORD_COLUMNS:
        other = f"{prefix.replace('-', '_').lower()}_{name}"
        raise node.refused(
            f"column {name!r} would take the name of one that every table has ({RECORD_COLUMNS[name]}): "
            f"choose another name, for example {other!r}"
        )
    return column_of(name, model, node, path=_path(name, model, node))


def column_of(name: str, model: ColumnModel, node: Node, *, path: Path) -> Column:
    """Returns a declared column that is read from `path`. Raises CatalogError."""
    check_text("column", name, COLUMN_PATTERN, node=node, rule="letters, digits and _, a letter or _ first, at most 63")
    if name in SYSTEM_COLUMNS:
        raise node.refused(f"column {name!r} has a name that Postgres reserves: choose another one")
    _check_options(name, model, node)
    return Column(
        name=name,
        path=path,
        type=model.type,
        time_format=model.format or "iso",
        is_required=model.required,
        empty_as_null=model.empty_as_null,
        assume_utc=model.assume_zone == "UTC",
        rounds=model.round,
        rejects_nulls=model.nulls == "reject",
        description=model.description,
    )


def _path(name: str, model: ColumnModel, node: Node) -> Path:
    try:
        return parse_path(model.path)
    except CatalogError as error:
        raise (node / "path").refused(f"column {name!r}: {error}") from error


def _check_options(name: str, model: ColumnModel, node: Node) -> None:
    """Refuses a key that means nothing for the column's type."""
    types = {"format": "timestamptz", "assume_zone": "timestamptz", "round": "timestamptz", "nulls": "text[]"}
    given = {"format": model.format, "assume_zone": model.assume_zone, "round": model.round or None, "nulls": model.nulls}
    for key, value in given.items():
        if value is not None and model.type != types[key]:
            raise (node / key).refused(f"column {name!r} of type {model.type} has {key!r}, which only a {types[key]} can have")
