"""This room holds the commands of `sequin-pipeline`, one module per command.

Dagster, pandas and servers take seconds to import: modules of commands do so inside their functions, so that help and wrong usage
answer at once.

Errors of the pipeline end here as one message on stderr: status 2 for what the caller must fix, 1 for the rest. There is no traceback.
"""

import importlib
import os
import sys
import warnings

import click

from sequin_pipeline.cli.groups import Group
from sequin_pipeline.errors import ConfigurationError, PipelineError
from sequin_pipeline.garbage import spare_imports

COMMANDS = {
    "backfill": "sequin_pipeline.cli.backfill",
    "db": "sequin_pipeline.cli.db",
    "doctor": "sequin_pipeline.cli.doctor",
    "explain": "sequin_pipeline.cli.explain",
    "forget": "sequin_pipeline.cli.forget",
    "infer": "sequin_pipeline.cli.infer",
    "plan": "sequin_pipeline.cli.plan",
    "rejects": "sequin_pipeline.cli.rejects",
    "sandbox": "sequin_pipeline.cli.sandbox",
    "schema": "sequin_pipeline.cli.schema",
    "status": "sequin_pipeline.cli.status",
    "sync": "sequin_pipeline.cli.sync",
    "ui": "sequin_pipeline.cli.ui",
}


class LazyGroup(Group):
    """Each command is the attribute `command` of its module, which is imported when somebody asks for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong entry in COMMANDS is a bug, not an input
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sequin-pipeline")
def group() -> None:
    """Merge the records of an API into Postgres tables, by Dagster."""


def main() -> None:
    """Runs the console script."""
    spare_imports()
    # Dagster marks as beta or preview what its own loading of YAML uses: nothing that a user of a command could act on.
    warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")
    try:
        # None: colours on a terminal. rich reads the variable by itself.
        group(color=False if os.environ.get("NO_COLOR") else None)
    except PipelineError as error:
        click.echo(f"sequin-pipeline: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
