"""Which databases and which API the variables mean, alone and together."""

from pathlib import Path

import pytest

from sequin_pipeline.environment.embedded import Home
from sequin_pipeline.environment.settings import (
    Settings,
    find_dagster_home,
    find_project,
    merge_dotenv,
    read_settings,
    tell_dagster,
)
from sequin_pipeline.errors import ConfigurationError
from tests.support.checkout import CHECKOUT

HOME = Home(Path("/var/lib/sequin_pipeline"))
PROJECT = Path("/srv/project")
EMBEDDED = {
    name: f"postgresql://postgres@/{name}?host=/var/lib/sequin_pipeline/run&port=5432&hostaddr="
    for name in ("warehouse", "sandbox", "dagster")
}
CLOSED = (
    "%26options%3D%26replication%3D%26client_encoding%3DUTF8%26passfile%3D%26sslmode%3Ddisable%26sslrootcert%3D%26requirepeer%3D"
    "%26target_session_attrs%3Dany%26connect_timeout%3D30%26gssencmode%3Ddisable%26channel_binding%3Dprefer"
    "%26ssl_min_protocol_version%3D%26ssl_max_protocol_version%3D%26require_auth%3D%26sslcertmode%3Ddisable"
    "%26load_balance_hosts%3Ddisable%26sslnegotiation%3Dpostgres"
)
"""What libpq 17, which psycopg2 brings, would look for in its environment."""
DAGSTER = (
    "postgresql+psycopg2:///?dsn=postgresql%3A%2F%2Fpostgres%40%2Fdagster%3Fhost%3D%2Fvar%2Flib%2Fsequin_pipeline%2Frun"
    f"%26port%3D5432%26hostaddr%3D{CLOSED}"
)
EARLIER = {name: url.removesuffix("&hostaddr=") for name, url in EMBEDDED.items()}
YOURS = "postgresql://you:hush@db.example/yours"
API = "https://api.example"


def settings(
    environ: dict[str, str], *, embedded_home: Home | None = HOME, wants_sandbox: bool = False, reads_records_api: bool = True
) -> Settings:
    return read_settings(
        environ, PROJECT, embedded_home=embedded_home, wants_sandbox=wants_sandbox, reads_records_api=reads_records_api
    )


@pytest.mark.parametrize(
    ("environ", "warehouse", "embedded"),
    [
        pytest.param({}, EMBEDDED["sandbox"], {"WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"}, id="nothing-set"),
        pytest.param({"WAREHOUSE_URL": " "}, EMBEDDED["sandbox"], {"WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"}, id="empty-is-unset"),
        pytest.param({"SEQUIN_API_URL": API}, EMBEDDED["warehouse"], {"WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"}, id="an-api"),
        pytest.param(
            {"SEQUIN_API_URL": API, "WAREHOUSE_URL": YOURS}, YOURS, {"DAGSTER_POSTGRES_URL"}, id="an-api-and-a-warehouse"
        ),
        pytest.param(
            {"SEQUIN_API_URL": API, "WAREHOUSE_URL": YOURS, "DAGSTER_POSTGRES_URL": YOURS}, YOURS, set(), id="everything"
        ),
        pytest.param(
            {"WAREHOUSE_URL": EMBEDDED["sandbox"], "DAGSTER_POSTGRES_URL": DAGSTER},
            EMBEDDED["sandbox"],
            {"WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"},
            id="our-own-env-file-was-sourced",
        ),
        pytest.param(
            {"WAREHOUSE_URL": EARLIER["sandbox"], "DAGSTER_POSTGRES_URL": EARLIER["dagster"]},
            EMBEDDED["sandbox"],
            {"WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"},
            id="an-env-file-of-an-earlier-version-was-sourced",
        ),
        pytest.param(
            {"WAREHOUSE_URL": EMBEDDED["warehouse"]},
            EMBEDDED["sandbox"],
            {"WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"},
            id="a-sourced-warehouse-gets-no-sandbox-rows",
        ),
        pytest.param(
            {"SEQUIN_API_URL": API, "WAREHOUSE_URL": EMBEDDED["sandbox"]},
            EMBEDDED["sandbox"],
            {"WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"},
            id="a-sourced-sandbox-stays-the-place-of-a-sandbox-that-runs",
        ),
    ],
)
def test_what_is_not_set_lies_in_the_embedded_server(environ: dict[str, str], warehouse: str, embedded: set[str]) -> None:
    resolved = settings(environ)

    assert resolved.warehouse_url == warehouse
    assert resolved.embedded_variables == embedded
    assert resolved.needs_embedded is bool(embedded)


@pytest.mark.parametrize(
    "given",
    [
        "postgres://you:hush@db.example/yours",
        "postgresql://you:hush@db.example/yours",
        "postgresql+psycopg://you:hush@db.example/yours",
        "postgresql+psycopg2://you:hush@db.example/yours",
        "POSTGRES://you:hush@db.example/yours",
    ],
)
def test_a_warehouse_is_plain_for_psycopg_and_dagster_s_storage_names_its_driver(given: str) -> None:
    resolved = settings({"SEQUIN_API_URL": API, "WAREHOUSE_URL": given, "DAGSTER_POSTGRES_URL": given})

    assert resolved.warehouse_url == "postgresql://you:hush@db.example/yours"
    assert resolved.dagster_postgres_url == "postgresql+psycopg2://you:hush@db.example/yours"


@pytest.mark.parametrize("given", ["host=db.example password=hush", "mysql://you:hush@db.example/yours", "postgresql:hush"])
@pytest.mark.parametrize("variable", ["WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"])
def test_what_is_no_postgres_url_is_refused_without_being_shown(variable: str, given: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        settings({"SEQUIN_API_URL": API, variable: given})

    assert str(refusal.value).startswith(f"{variable} should be a URL as in postgresql://user:password@host:5432/database")
    assert "hush" not in str(refusal.value)


def test_a_warehouse_of_yours_gets_no_sandbox_rows_by_accident() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        settings({"WAREHOUSE_URL": YOURS})

    assert str(refusal.value) == (
        "WAREHOUSE_URL names a database of yours (postgresql://you:***@db.example/yours), but SEQUIN_API_URL is not set, so that "
        "records would come from the sandbox: set SEQUIN_API_URL, unset WAREHOUSE_URL, or pass --sandbox to put them there"
    )


def test_a_warehouse_of_yours_gets_sandbox_rows_when_told() -> None:
    resolved = settings({"WAREHOUSE_URL": YOURS}, wants_sandbox=True)

    assert (resolved.warehouse_url, resolved.uses_sandbox) == (YOURS, True)


def test_the_sandbox_and_an_api_are_not_both_taken() -> None:
    with pytest.raises(
        ConfigurationError, match=r"the sandbox was asked for, but SEQUIN_API_URL names an API \(https://api.example\)"
    ):
        settings({"SEQUIN_API_URL": API}, wants_sandbox=True)


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        pytest.param({}, "WAREHOUSE_URL is not set", id="nothing-set"),
        pytest.param(
            {"WAREHOUSE_URL": YOURS, "SEQUIN_API_URL": API}, "DAGSTER_POSTGRES_URL is not set", id="no-storage-for-dagster"
        ),
    ],
)
def test_without_an_embedded_server_what_is_missing_is_named(environ: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{missing}, and there is no Postgres to start"):
        settings(environ, embedded_home=None)


def test_processes_get_everything_and_the_env_file_only_what_you_did_not_say() -> None:
    resolved = settings({"SEQUIN_API_URL": API, "SEQUIN_API_TOKEN": "hush", "WAREHOUSE_URL": YOURS, "HOME": "/root"})

    assert resolved.variables() == {
        "WAREHOUSE_URL": YOURS,
        "SEQUIN_API_URL": API,
        "SEQUIN_API_TOKEN": "hush",
        "DAGSTER_POSTGRES_URL": DAGSTER,
        "DAGSTER_HOME": "/srv/project",
    }
    assert resolved.defaults() == {"DAGSTER_POSTGRES_URL": DAGSTER, "DAGSTER_HOME": "/srv/project"}


def test_a_sourced_env_file_is_written_again_as_it_was() -> None:
    first = settings({}).defaults()

    assert settings(first).defaults() == first


def test_nothing_goes_to_the_env_file_where_all_is_said() -> None:
    resolved = settings({"SEQUIN_API_URL": API, "WAREHOUSE_URL": YOURS, "DAGSTER_POSTGRES_URL": YOURS})

    assert resolved.defaults() == {}


def test_no_secret_is_shown() -> None:
    resolved = settings({"SEQUIN_API_URL": "https://hush@api.example", "SEQUIN_API_TOKEN": "hush", "WAREHOUSE_URL": YOURS})

    assert resolved.describe() == [
        "warehouse        your WAREHOUSE_URL postgresql://you:***@db.example/yours",
        "records API      https://***@api.example",
        f"Dagster storage  embedded Postgres {EMBEDDED['dagster']}",
        "Dagster home     /srv/project",
    ]
    assert "hush" not in repr(resolved)


def test_a_relative_dagster_home_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="DAGSTER_HOME is 'here', but Dagster takes an absolute path only"):
        settings({"DAGSTER_HOME": "here"})


def test_the_current_directory_is_the_project_where_it_holds_dagster_yaml(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").touch()

    assert find_project(tmp_path) == tmp_path
    assert find_project(tmp_path.parent) == CHECKOUT


@pytest.mark.parametrize(("files", "home"), [(["dagster.yaml"], "{folder}"), ([], "/srv/home/dagster")])
def test_dagster_has_its_home_in_a_project_or_below_the_pipelines_own(tmp_path: Path, files: list[str], home: str) -> None:
    for name in files:
        (tmp_path / name).touch()

    found = find_dagster_home({"SEQUIN_PIPELINE_HOME": "/srv/home"}, tmp_path)

    assert str(found) == home.format(folder=tmp_path)


def test_a_folder_without_dagster_yaml_gets_no_env_file(tmp_path: Path) -> None:
    told = tell_dagster(tmp_path, {"WAREHOUSE_URL": "postgresql:///w"})

    assert (told, list(tmp_path.iterdir())) == (False, [])


def test_the_users_lines_of_the_env_file_count_as_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SEQUIN_API_TOKEN=hush\nHOME=/elsewhere\n")

    assert merge_dotenv({"HOME": "/root"}, tmp_path) == {"SEQUIN_API_TOKEN": "hush", "HOME": "/root"}


def test_two_values_for_one_variable_are_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SEQUIN_API_TOKEN=hush\n")

    with pytest.raises(ConfigurationError) as refusal:
        merge_dotenv({"SEQUIN_API_TOKEN": "quiet"}, tmp_path)

    assert str(refusal.value) == (
        f"SEQUIN_API_TOKEN has one value in the environment and another in '{tmp_path}/.env', which wins in Dagster's own "
        'processes: remove one, or let the line give way to what is exported, as in SEQUIN_API_TOKEN="${SEQUIN_API_TOKEN:-...}"'
    )


@pytest.mark.parametrize(("environ", "warehouse"), [({}, EMBEDDED["warehouse"]), ({"WAREHOUSE_URL": YOURS}, YOURS)])
def test_without_a_provider_of_the_records_api_nothing_is_asked_of_its_address(environ: dict[str, str], warehouse: str) -> None:
    resolved = settings(environ, reads_records_api=False)

    assert (resolved.warehouse_url, resolved.uses_sandbox) == (warehouse, False)
    assert resolved.describe()[1] == "records API      not needed: every provider is read from a source of its own"


def test_the_sandbox_is_refused_where_no_provider_reads_the_records_api() -> None:
    with pytest.raises(ConfigurationError, match="no declared provider reads the records API"):
        settings({}, wants_sandbox=True, reads_records_api=False)
