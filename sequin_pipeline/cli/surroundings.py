"""Databases and API of a command: what is missing is started, and `.env` tells Dagster's own commands where everything is."""

import os
from pathlib import Path

from sequin_pipeline import environment
from sequin_pipeline.dotenv import write_dotenv
from sequin_pipeline.environment import Settings
from sequin_pipeline.sandbox import launcher

SANDBOX_TOKEN = "sandbox"  # noqa: S105 - the sandbox asks for none; runs must send something


def bring_up(*, wants_sandbox: bool = False) -> tuple[Settings, dict[str, str]]:
    """Starts or adopts the embedded Postgres and the sandbox where they are needed; returns the settings, and the variables for
    processes that read the API, which hold secrets. Raises ConfigurationError."""
    directory = Path.cwd()
    project = environment.find_project(directory)
    settings = environment.prepare(os.environ, directory, wants_sandbox=wants_sandbox)
    variables = settings.variables()
    if settings.api_url is None:
        home = launcher.default_home(environment.merge_dotenv(os.environ, project))
        sandbox = {environment.SEQUIN_API_URL: launcher.ensure_running(home), environment.SEQUIN_API_TOKEN: SANDBOX_TOKEN}
        variables |= sandbox
        if project is not None:
            write_dotenv(project / ".env", {**settings.defaults(), **sandbox})
    return settings, variables
