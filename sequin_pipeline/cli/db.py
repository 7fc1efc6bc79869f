"""`sequin-pipeline db` manages the databases that the pipeline uses, and the embedded Postgres behind them."""

import os
import sys
from pathlib import Path

import click

from sequin_pipeline.cli.groups import Group
from sequin_pipeline.cli.running import program
from sequin_pipeline.environment import embedded
from sequin_pipeline.environment import settings as environment
from sequin_pipeline.environment.embedded import DATABASES, EmbeddedServer
from sequin_pipeline.postgres.urls import mask_url

NOT_RUNNING = 3
"""`status` exits with this for a server that is not running, as service scripts do (LSB)."""


@click.group(cls=Group)
def command() -> None:
    """Start, stop and look at the embedded Postgres."""


@command.command()
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
def start(*, sandbox: bool) -> None:
    """Start the embedded Postgres and the sandbox if they are needed, and write .env for Dagster's own commands."""
    from sequin_pipeline.cli.surroundings import bring_up
    from sequin_pipeline.orchestration.catalog_files import load_collections

    collections = load_collections(_environ())
    settings, variables = bring_up(collections.values(), wants_sandbox=sandbox)
    if settings.needs_embedded:
        _show(embedded.start(_environ()))
    else:
        click.echo(f"The embedded Postgres is not needed: {mask_url(settings.warehouse_url)} is yours.")
    for line in settings.describe():
        click.echo(line)
    if settings.uses_sandbox:
        click.echo(f"The sandbox serves the records API on {variables[environment.SEQUIN_API_URL]}.")
    project = environment.find_project(Path.cwd())
    if settings.defaults():
        written = f"Written to {project / '.env'} for dg and dagster. " if environment.has_instance(project) else ""
        click.echo(f"{written}All of it runs until `{program()} db stop`.")


@command.command()
def stop() -> None:
    """Stop the embedded Postgres, ending the sessions in it, and the sandbox."""
    from sequin_pipeline.sandbox import launcher

    if launcher.stop(launcher.default_home(_environ())):
        click.echo("The sandbox has been stopped.")
    stopped = embedded.stop(_environ())
    click.echo("The embedded Postgres has been stopped." if stopped else "The embedded Postgres was not running.")


@command.command()
def status() -> None:
    """Tell whether the embedded Postgres runs: status 0 if it does, 3 if not."""
    server = embedded.status(_environ())
    if server is None:
        click.echo(f"The embedded Postgres in {embedded.find_home(_environ()).root} is not running.")
        sys.exit(NOT_RUNNING)
    _show(server)


@command.command()
@click.argument("database", default=DATABASES[0], type=click.Choice(DATABASES))
def url(database: str) -> None:
    """Print the URL of a database of the embedded Postgres, as psql takes it; the server need not run."""
    click.echo(embedded.find_home(_environ()).url(database))


@command.command()
@click.argument("database", type=click.Choice(DATABASES))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def dump(database: str, file: Path) -> None:
    """Save a database of the embedded Postgres to a file for pg_restore."""
    embedded.dump(_environ(), database, path=file)
    click.echo(f"Database {database!r} has been saved to {file}.")


def _environ() -> dict[str, str]:
    """Returns the environment with the project's `.env`, in which the home of the embedded server may be named."""
    return environment.merge_dotenv(os.environ, environment.find_project(Path.cwd()))


def _show(server: EmbeddedServer) -> None:
    click.echo(f"Postgres {server.version} runs in {server.home.root}, reachable on this machine by its socket only:")
    for database in DATABASES:
        click.echo(f"  {database:<10} {server.url(database)}")
