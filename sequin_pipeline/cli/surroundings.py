"""This module brings up the databases and the API of a command, and tells Dagster's own commands in `.env` where they are."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sequin_pipeline.catalog import Collection
from sequin_pipeline.environment import settings as environment
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox import launcher
from sequin_pipeline.sandbox.settings import SANDBOX_TOKEN
from sequin_pipeline.sources.registry import missing_variables, source_kind


def bring_up(
    collections: Iterable[Collection], *, wants_sandbox: bool = False, asked: Sequence[Collection] | None = None
) -> tuple[Settings, dict[str, str]]:
    """Starts or adopts the embedded Postgres and the sandbox where these collections need them.

    `asked` are those that will be read, None for all. Returns the settings, and the variables for processes that read sources, which
    hold secrets. Raises ConfigurationError.
    """
    directory = Path.cwd()
    project = environment.find_project(directory)
    given = environment.merge_dotenv(os.environ, project)
    reads_records_api, needed = check_sources(collections, given, asked=asked)
    settings = environment.prepare(os.environ, directory, wants_sandbox=wants_sandbox, reads_records_api=reads_records_api)
    variables = {**settings.variables(), **{name: given[name] for name in needed}}
    if settings.uses_sandbox:
        home = launcher.default_home(environment.merge_dotenv(os.environ, project))
        sandbox = {environment.SEQUIN_API_URL: launcher.ensure_running(home), environment.SEQUIN_API_TOKEN: SANDBOX_TOKEN}
        variables |= sandbox
        environment.tell_dagster(project, {**settings.defaults(), **sandbox})
    return settings, variables


def check_sources(
    collections: Iterable[Collection], given: Mapping[str, str], *, asked: Sequence[Collection] | None = None
) -> tuple[bool, set[str]]:
    """Returns whether any provider reads the records API, and which variables the other sources need.

    Sources of collections that are not among those `asked` need none.
    Raises ConfigurationError for one that is missing, and where records of the sandbox would land beside real ones.
    """
    of_records_api, of_others, needed = "", "", set[str]()
    for collection in collections:
        source = collection.source
        if source_kind(source.kind).reads_records_api:
            of_records_api = collection.provider
            continue
        of_others = collection.provider
        if asked is not None and collection not in asked:
            continue
        missing = missing_variables(source, given)
        if missing:
            raise ConfigurationError(
                f"provider {collection.provider!r} is read from source {source.kind!r}, which needs {' and '.join(missing)}: set "
                f"{'it' if len(missing) == 1 else 'them'} in the environment or in .env"
            )
        kind = source_kind(source.kind)
        needed.update(kind.variables(source), (name for name in kind.optional(source) if given.get(name, "").strip()))
    if of_records_api and of_others and not given.get(environment.SEQUIN_API_URL, "").strip():
        raise ConfigurationError(
            f"provider {of_records_api!r} reads the records API, and {environment.SEQUIN_API_URL} is not set, so that records of the "
            f"sandbox would land beside those of {of_others!r}, which are real: set {environment.SEQUIN_API_URL}, or name a folder "
            f"without {of_records_api!r} in {environment.SEQUIN_COLLECTIONS}"
        )
    return bool(of_records_api) or not of_others, needed
