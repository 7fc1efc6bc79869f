"""`sequin-pipeline schema` prints the managed tables as models for somebody's application."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from sequin_pipeline.cli.completion import complete_collections
from sequin_pipeline.cli.names import plain_label, unknown_collection
from sequin_pipeline.environment import settings as environment
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import history_model, model_tables


@click.command()
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), required=True, help="For which tool.")
@click.argument("labels", nargs=-1, metavar="[PROVIDER/NAME]…", shell_complete=complete_collections)
def command(*, format_name: str, labels: Sequence[str]) -> None:
    """Print the models of these collections' and assets' tables, by default of all; nothing is started or connected to."""
    from sequin_pipeline.orchestration.catalog_files import load_collections
    from sequin_pipeline.orchestration.frame_models import FrameModels, frame_models

    variables = environment.merge_dotenv(os.environ, environment.find_project(Path.cwd()))
    collections = load_collections(variables)
    labels = [label if label in collections else plain_label(label) for label in labels]
    frames = frame_models(variables) if not labels or not collections.keys() >= {*labels} else FrameModels({}, ())
    tables = {label: [*model_tables(one), *filter(None, [history_model(one)])] for label, one in collections.items()}
    tables |= {label: [table] for label, table in frames.tables.items()}
    for label in labels:
        if label in frames.untold:
            raise ConfigurationError(
                f"asset {label!r} does not say which columns its frame has: give it the metadata dagster/column_schema"
            )
        if label not in collections and label not in frames.tables:
            raise unknown_collection(label, [*collections, *frames.tables])
        if label in collections and not tables[label]:
            raise ConfigurationError(
                f"table {str(collections[label].table)!r} of {label!r} belongs to an application, which has the model of it: "
                "ask for collections whose tables the pipeline manages"
            )
    for asset in () if labels else frames.untold:
        click.echo(f"asset {asset!r} is left out: its metadata has no dagster/column_schema that says its columns", err=True)
    printed = [table for label, found in tables.items() if not labels or label in labels for table in found]
    click.echo(FORMATS[format_name](printed), nl=False)
