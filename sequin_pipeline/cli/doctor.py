"""`sequin-pipeline doctor` checks that everything runs need is there, and says how to fix the rest."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment import settings as environment
from sequin_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from sequin_pipeline.operate.doctor.finding import Finding

COLOURS = {"ok": "green", "advice": "cyan", "warning": "yellow", "problem": "red"}


@click.command()
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(*, sandbox: bool, as_json: bool) -> None:
    """Check connections, rights, clocks, versions, the ledger, disks, the API, keys and what is declared; start and change nothing.

    Each line is ok, advice, a warning or a problem, with its fix. Exit status: 0 no problem, 1 a problem.
    """
    findings = []
    for finding in _examine(wants_sandbox=sandbox):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        click.echo(
            f"\n{problems or 'no'} problem{'' if problems == 1 else 's'}, {warnings or 'no'} warning{'' if warnings == 1 else 's'}"
        )
    if problems:
        sys.exit(1)


def _print(finding: "Finding") -> None:
    click.echo(f"{click.style(f'{finding.level:<8}', fg=COLOURS[finding.level])} {finding.check:<16} {finding.said}")
    if finding.fix:
        click.echo(f"{'':<26}fix: {finding.fix}")


def _examine(*, wants_sandbox: bool) -> "Iterator[Finding]":
    """Reads the environment as every command does, without starting what is missing."""
    from sequin_pipeline.cli.surroundings import check_sources
    from sequin_pipeline.operate.doctor import examine
    from sequin_pipeline.operate.doctor.finding import Finding, Patient
    from sequin_pipeline.orchestration.catalog_files import load_collections
    from sequin_pipeline.sandbox import launcher
    from sequin_pipeline.sandbox.settings import SANDBOX_TOKEN

    try:
        project = environment.find_project(Path.cwd())
        given = environment.merge_dotenv(os.environ, project)
        collections = load_collections(given)
        yield Finding("definitions", "ok", f"{len(collections)} collections are declared")
        reads_records_api, _ = check_sources(collections.values(), given)
        home = embedded.find_home(given) if embedded.is_available(given) else None
        settings = environment.read_settings(
            given,
            environment.find_dagster_home(given, project),
            embedded_home=home,
            wants_sandbox=wants_sandbox,
            reads_records_api=reads_records_api,
        )
        has_databases = not settings.needs_embedded or embedded.status(given) is not None
        if has_databases:
            settings.close_environment()
    except ConfigurationError as error:
        yield Finding("configuration", "problem", str(error), "the message says what to do; nothing else was checked")
        return
    for line in settings.describe():
        yield Finding("configuration", "ok", " ".join(line.split()))
    if not has_databases:
        said = "the embedded Postgres is not running, so its databases could not be checked"
        yield Finding("warehouse", "warning", said, "`sequin-pipeline db start`, or any command that needs it, starts it")
    variables = {**given, **settings.variables()}
    api_url = settings.api_url
    if settings.uses_sandbox:
        api_url = launcher.running_url(launcher.default_home(given))
        variables[environment.SEQUIN_API_TOKEN] = SANDBOX_TOKEN
        variables[environment.SEQUIN_API_URL] = api_url or "http://127.0.0.1"
    yield from examine(Patient(settings, variables, collections, api_url), has_databases=has_databases)
