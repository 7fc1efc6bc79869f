"""This module decides which warehouse, API and Dagster storage to use, from the environment and the embedded server.

`read_settings` decides, and knows only its arguments. `prepare` is what commands call: it looks at the project and its `.env`, starts
the embedded server if something lies in it, and tells Dagster's own commands through `.env`. Nothing here is read at import.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.dagster_home import INSTANCE_FILE, default_dagster_home, write_dagster_home
from sequin_pipeline.environment.dotenv import read_dotenv, write_dotenv
from sequin_pipeline.environment.embedded import Home
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.libpq import forget_what_breaks, is_same_place, unwrapped
from sequin_pipeline.postgres.urls import mask_url, plain_postgres_url, psycopg2_url

WAREHOUSE_URL = "WAREHOUSE_URL"
SEQUIN_API_URL = "SEQUIN_API_URL"
SEQUIN_API_TOKEN = "SEQUIN_API_TOKEN"  # noqa: S105 - the name of a variable, not a token
SEQUIN_COLLECTIONS = "SEQUIN_COLLECTIONS"
DAGSTER_POSTGRES_URL = "DAGSTER_POSTGRES_URL"
DAGSTER_HOME = "DAGSTER_HOME"
VARIABLES = (WAREHOUSE_URL, SEQUIN_API_URL, SEQUIN_API_TOKEN, SEQUIN_COLLECTIONS, DAGSTER_POSTGRES_URL, DAGSTER_HOME)


@dataclass(frozen=True)
class Settings:
    """This value holds every resolved setting.

    `api_url` None means the sandbox, unless no provider reads the records API. `embedded_variables` are those whose value is a
    database of the embedded server; `given` holds what the user said, unchanged.
    """

    warehouse_url: str = field(repr=False)
    dagster_postgres_url: str = field(repr=False)
    dagster_home: Path
    embedded_variables: frozenset[str]
    given: Mapping[str, str] = field(repr=False)
    api_url: str | None = field(repr=False)
    reads_records_api: bool = True

    @property
    def uses_sandbox(self) -> bool:
        return self.reads_records_api and self.api_url is None

    @property
    def needs_embedded(self) -> bool:
        return bool(self.embedded_variables)

    def close_environment(self) -> None:
        """Takes from this process what keeps libpq from the embedded server, which must be running, where no URL is the user's own."""
        if self.embedded_variables == {WAREHOUSE_URL, DAGSTER_POSTGRES_URL}:
            forget_what_breaks(self.warehouse_url)

    def variables(self) -> dict[str, str]:
        """Returns the environment for processes that we start; it holds secrets.

        Whoever runs the sandbox adds its SEQUIN_API_URL.
        """
        return {
            **self.given,
            WAREHOUSE_URL: self.warehouse_url,
            DAGSTER_POSTGRES_URL: self.dagster_postgres_url,
            DAGSTER_HOME: str(self.dagster_home),
        }

    def defaults(self) -> dict[str, str]:
        """Returns what the user did not say but Dagster's own commands must be told.

        It holds no secrets, and nothing where all is given.
        """
        resolved = self.variables()
        defaulted = {*self.embedded_variables, *({DAGSTER_HOME} - self.given.keys())} if self.needs_embedded else set()
        return {name: resolved[name] for name in VARIABLES if name in defaulted}

    def describe(self) -> list[str]:
        """Returns lines for people that say where everything is, and why."""
        return [
            f"warehouse        {self._origin(WAREHOUSE_URL)} {mask_url(self.warehouse_url)}",
            f"records API      {self._records_api()}",
            f"Dagster storage  {self._origin(DAGSTER_POSTGRES_URL)} {mask_url(unwrapped(self.dagster_postgres_url))}",
            f"Dagster home     {self.dagster_home}",
        ]

    def _records_api(self) -> str:
        if not self.reads_records_api:
            return "not needed: every provider is read from a source of its own"
        return mask_url(self.api_url) if self.api_url else "the sandbox, since SEQUIN_API_URL is not set"

    def _origin(self, variable: str) -> str:
        return "embedded Postgres" if variable in self.embedded_variables else f"your {variable}"


def read_settings(
    environ: Mapping[str, str],
    default_home: Path,
    *,
    embedded_home: Home | None,
    wants_sandbox: bool = False,
    reads_records_api: bool = True,
) -> Settings:
    """Decides the settings from its arguments alone.

    `default_home` is Dagster's home where DAGSTER_HOME names none; `embedded_home` None means that no embedded server can run
    here; `reads_records_api` says whether any declared provider does.

    An empty variable counts as unset. What we would write to `.env` ourselves counts as a default, not as the user's: the file may
    have been sourced. Raises ConfigurationError where something is missing or contradicts itself.
    """
    given = {name: environ[name].strip() for name in VARIABLES if environ.get(name, "").strip()}
    if given.get(DAGSTER_HOME) == str(default_home):
        del given[DAGSTER_HOME]
    api_url = given.get(SEQUIN_API_URL)
    if wants_sandbox and api_url is not None:
        raise ConfigurationError(
            f"the sandbox was asked for, but {SEQUIN_API_URL} names an API ({mask_url(api_url)}): unset one of them"
        )
    if wants_sandbox and not reads_records_api:
        raise ConfigurationError(
            "the sandbox was asked for, but no declared provider reads the records API, which it serves: leave --sandbox out"
        )
    has_records = SEQUIN_API_URL in given or not reads_records_api
    warehouse_url, warehouse_is_embedded = _warehouse(given, embedded_home, has_records=has_records, wants_sandbox=wants_sandbox)
    dagster_url, dagster_is_embedded = _dagster_storage(given, embedded_home)
    sources = {WAREHOUSE_URL: warehouse_is_embedded, DAGSTER_POSTGRES_URL: dagster_is_embedded}
    return Settings(
        warehouse_url=warehouse_url,
        dagster_postgres_url=psycopg2_url(dagster_url),
        dagster_home=_dagster_home(given, default_home),
        embedded_variables=frozenset(name for name, is_embedded in sources.items() if is_embedded),
        given=given,
        api_url=api_url,
        reads_records_api=reads_records_api,
    )


def prepare(
    environ: Mapping[str, str], directory: Path, *, wants_sandbox: bool = False, reads_records_api: bool = True
) -> Settings:
    """Returns settings whose databases can be connected to; starts or adopts the embedded server if something lies in it.

    Where no dagster.yaml lies in the project's folder, Dagster gets a home of the pipeline's own. Else our lines in the project's
    `.env` are rewritten, so that Dagster's commands use the same databases as ours.
    """
    project = find_project(directory)
    environ = merge_dotenv(environ, project)
    home = embedded.find_home(environ) if embedded.is_available(environ) else None
    settings = read_settings(
        environ,
        find_dagster_home(environ, project),
        embedded_home=home,
        wants_sandbox=wants_sandbox,
        reads_records_api=reads_records_api,
    )
    if settings.needs_embedded:
        embedded.start(environ)
        settings.close_environment()
    if DAGSTER_HOME not in settings.given and not has_instance(project):
        write_dagster_home(settings.dagster_home)
    tell_dagster(project, settings.defaults())
    return settings


def tell_dagster(project: Path, values: Mapping[str, str]) -> bool:
    """Rewrites our lines in the `.env` of a folder with a dagster.yaml; returns False for any other, which is nobody's project."""
    if not has_instance(project):
        return False
    write_dotenv(project / ".env", values)
    return True


def find_project(directory: Path) -> Path:
    """Returns `directory` where it holds a dagster.yaml, else the checkout that this package is imported from, else `directory`.

    Nothing is looked for in the folders above, nor where the package is installed: a file there is another program's.
    """
    directory, checkout = directory.resolve(), find_checkout()
    return directory if has_instance(directory) or checkout is None else checkout


def find_checkout() -> Path | None:
    """Returns the folder with a dagster.yaml that this package is imported from, or None where it was installed."""
    folder = Path(__file__).resolve().parents[2]
    is_installed = any(folder.glob("sequin_pipeline-*.dist-info"))
    return folder if has_instance(folder) and not is_installed else None


def has_instance(folder: Path) -> bool:
    return (folder / INSTANCE_FILE).is_file()


def find_dagster_home(environ: Mapping[str, str], project: Path) -> Path:
    """Returns Dagster's home where DAGSTER_HOME names none: the project with its dagster.yaml, else one of the pipeline's own."""
    return project if has_instance(project) else default_dagster_home(environ)


def merge_dotenv(environ: Mapping[str, str], project: Path) -> dict[str, str]:
    """Returns the environment together with the user's lines in the project's `.env`; refuses two values for one of our variables.

    Dagster's processes would take the one in the file, while everybody else expects the other, unless the line itself gives way.
    """
    written = read_dotenv(project / ".env")
    for name in VARIABLES:
        if name in written and environ.get(name, written[name]) != written[name]:
            raise ConfigurationError(
                f"{name} has one value in the environment and another in {str(project / '.env')!r}, which wins in Dagster's own "
                f'processes: remove one, or let the line give way to what is exported, as in {name}="${{{name}:-...}}"'
            )
    return {**written, **environ}


def _warehouse(given: Mapping[str, str], home: Home | None, *, has_records: bool, wants_sandbox: bool) -> tuple[str, bool]:
    """Returns the URL, and whether it is the embedded server's.

    Records of the sandbox and real ones (`has_records`) never meet in one database.
    """
    named = plain_postgres_url(given[WAREHOUSE_URL], WAREHOUSE_URL) if WAREHOUSE_URL in given else None
    ours = _embedded_url(named, home, "warehouse", "sandbox")
    if named is not None and (has_records or (wants_sandbox and ours is None)):
        return ours or named, ours is not None
    if named is not None and ours is None:
        raise ConfigurationError(
            f"{WAREHOUSE_URL} names a database of yours ({mask_url(named)}), but {SEQUIN_API_URL} is not set, so that records "
            f"would come from the sandbox: set {SEQUIN_API_URL}, unset {WAREHOUSE_URL}, or pass --sandbox to put them there"
        )
    if home is None:
        raise ConfigurationError(
            f"{WAREHOUSE_URL} is not set, and there is no Postgres to start instead: set it to "
            "postgresql://user:password@host:5432/database, or install the extra sequin-pipeline[embedded]"
        )
    return home.url("warehouse" if has_records else "sandbox"), True


def _embedded_url(named: str | None, home: Home | None, *databases: str) -> str | None:
    """Returns the embedded server's own URL of the place that `named` means.

    An earlier version may have written it otherwise.
    """
    if named is None or home is None:
        return None
    return next((home.url(database) for database in databases if is_same_place(named, home.url(database))), None)


def _dagster_storage(given: Mapping[str, str], home: Home | None) -> tuple[str, bool]:
    if DAGSTER_POSTGRES_URL in given:
        named = plain_postgres_url(given[DAGSTER_POSTGRES_URL], DAGSTER_POSTGRES_URL)
        ours = _embedded_url(named, home, "dagster")
        return ours or named, ours is not None
    if home is None:
        raise ConfigurationError(
            f"{DAGSTER_POSTGRES_URL} is not set, and there is no Postgres to start for Dagster's runs and events: set it to a "
            "database that Dagster may have for itself, or install the extra sequin-pipeline[embedded]"
        )
    return home.url("dagster"), True


def _dagster_home(given: Mapping[str, str], default_home: Path) -> Path:
    home = Path(given.get(DAGSTER_HOME, default_home)).expanduser()
    if not home.is_absolute():
        raise ConfigurationError(f"{DAGSTER_HOME} is {str(home)!r}, but Dagster takes an absolute path only")
    return home
