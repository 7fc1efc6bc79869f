"""This check looks at Dagster's own storage and home."""

from collections.abc import Iterator

from sequin_pipeline.environment.dagster_home import INSTANCE_FILE, SHIPPED
from sequin_pipeline.environment.settings import DAGSTER_HOME, DAGSTER_POSTGRES_URL
from sequin_pipeline.errors import PipelineError
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.postgres.urls import plain_postgres_url
from sequin_pipeline.postgres.warehouse import Warehouse


def dagster_storage(patient: Patient) -> Iterator[Finding]:
    home = patient.settings.dagster_home
    if (home / INSTANCE_FILE).is_file():
        yield Finding("Dagster home", "ok", f"{home}")
    elif DAGSTER_HOME in patient.settings.given:
        said = f"{DAGSTER_HOME} is {home}, which has no {INSTANCE_FILE}: Dagster would keep runs in files there"
        yield Finding("Dagster home", "problem", said, f"copy {SHIPPED / INSTANCE_FILE} there, or unset {DAGSTER_HOME}")
    else:
        yield Finding("Dagster home", "ok", f"{home}; it is made by the first command that needs it")
    storage = Warehouse(plain_postgres_url(patient.settings.dagster_postgres_url, DAGSTER_POSTGRES_URL), refuses_sql_ascii=False)
    try:
        with storage.connect() as connection:
            row = connection.execute(
                "select to_regclass('public.runs') is not null, has_schema_privilege('public', 'CREATE')"
            ).fetchone()
    except PipelineError as error:
        # The message of a connection names the warehouse's variable.
        raise type(error)(str(error).replace("WAREHOUSE_URL", DAGSTER_POSTGRES_URL)) from error
    assert row is not None  # noqa: S101 - functions' values
    has_tables, may_create = row
    if storage.name == Warehouse(patient.settings.warehouse_url).name:
        said = "is the warehouse's own database: Dagster's two dozen tables lie in its schema public"
        yield Finding("Dagster storage", "warning", said, f"give Dagster a database of its own with {DAGSTER_POSTGRES_URL}")
    elif has_tables:
        yield Finding("Dagster storage", "ok", f"connected as {storage.name}")
    elif may_create:
        yield Finding("Dagster storage", "ok", f"connected as {storage.name}; its tables are created at the first run")
    else:
        said = f"the role of {storage.name} may not create tables in its schema public"
        yield Finding("Dagster storage", "problem", said, "grant create on schema public to it")
