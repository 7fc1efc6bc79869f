"""Launches runs as the daemon does once they leave the queue: `python launch.py WORKSPACE JOB [TAGS]...`, TAGS as JSON, a run for each.

It runs where Dagster's engines are, prints the id of each run, and imports nothing of the project.
"""

import sys

import dagster as dg
from dagster._cli.job import execute_launch_command
from dagster._cli.workspace.cli_target import get_workspace_from_cli_opts
from dagster.version import __version__
from dagster_shared.cli import WorkspaceOpts


def main() -> None:
    workspace_file, job, *runs = sys.argv[1:]
    options = WorkspaceOpts(workspace=[workspace_file])
    with dg.DagsterInstance.get() as instance, get_workspace_from_cli_opts(instance, __version__, options) as workspace:
        for tags in runs:
            run = execute_launch_command(instance=instance, workspace_opts=options, job_name=job, tags=tags)
            assert run.status is dg.DagsterRunStatus.QUEUED, run.status
            instance.launch_run(run.run_id, workspace)
            sys.stdout.write(f"{run.run_id}\n")


main()
