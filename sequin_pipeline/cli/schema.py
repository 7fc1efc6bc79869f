"""`sequin-pipeline schema` prints the managed tables as models for somebody's application."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from sequin_pipeline.environment import settings as environment
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import model_table


@click.command()
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), required=True, help="For which tool.")
@click.argument("labels", nargs=-1, metavar="[PROVIDER/NAME]…")
def command(*, format_name: str, labels: Sequence[str]) -> None:
    """Print the models of these collections' managed tables, by default of all; nothing is started or connected to."""
    from sequin_pipeline.orchestration.catalog_files import load_collections

    collections = load_collections(environment.merge_dotenv(os.environ, environment.find_project(Path.cwd())))
    for label in labels:
        if label not in collections:
            raise ConfigurationError(f"no collection {label!r} is declared: there are {', '.join(collections) or 'none'}")
        if collections[label].unmanaged is not None:
            raise ConfigurationError(
                f"table {str(collections[label].table)!r} of {label!r} belongs to an application, which has the model of it: "
                "ask for collections whose tables the pipeline manages"
            )
    managed = {label: collection for label, collection in collections.items() if collection.unmanaged is None}
    wanted = [collection for label, collection in managed.items() if not labels or label in labels]
    click.echo(FORMATS[format_name]([model_table(collection) for collection in wanted]), nl=False)
