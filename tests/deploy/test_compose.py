"""The real docker-compose reads deploy/compose.yaml, and gives each container what it needs and no more."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tools import DEPLOY, needs_compose, run

pytestmark = [pytest.mark.processes, needs_compose]

SECRETS = {"POSTGRES_PASSWORD": "of-the-superuser", "SEQUIN_DATABASE_PASSWORD": "of-the-role", "REDIS_PASSWORD": "of-redis"}
SOURCE_KEY = "sk_of_the_source"
CODE, DAGSTER = ("code", "worker"), ("webserver", "daemon", "migrate")

Compose = Callable[..., dict[str, Any]]


def filled(folder: Path, example: str) -> None:
    """The folder of deploy/, with an .env as somebody fills it in."""
    for name in ("compose.yaml", "databases.sql", "dagster.yaml", "dagster.celery.yaml"):
        shutil.copy(DEPLOY / name, folder)
    text = example
    for name, value in SECRETS.items():
        text = re.sub(rf"^#?{name}=$", f"{name}={value}", text, flags=re.MULTILINE)
    (folder / ".env").write_text(text)
    (folder / "sources.env").write_text(f"STRIPE_API_KEY={SOURCE_KEY}\n")


def config(folder: Path, *options: str) -> "tuple[int, str, str]":
    said = run(["docker-compose", "--project-directory", str(folder), "--file", folder / "compose.yaml", *options, "config"])
    return said.returncode, said.stdout, said.stderr


def read(folder: Path, *options: str) -> dict[str, Any]:
    status, stdout, stderr = config(folder, *options)
    assert status == 0, stderr
    found: dict[str, Any] = yaml.safe_load(stdout)
    return found


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of all profiles, with what example.env says about Celery switched on."""
    folder = tmp_path_factory.mktemp("compose")
    example = (DEPLOY / "example.env").read_text()
    filled(folder, re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE))
    found: dict[str, Any] = read(folder, "--profile", "celery")["services"]
    return found


def test_the_profile_adds_redis_and_workers_and_each_process_reads_the_instance_of_celery(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "migrate", "code", "webserver", "daemon", "redis", "worker"}
    mounted = {
        name: [volume for volume in services[name]["volumes"] if volume.endswith("/dagster.yaml:ro")]
        for name in (*CODE, *DAGSTER)
    }
    assert {name: [volume.partition(":")[0].rpartition("/")[2] for volume in found] for name, found in mounted.items()} == {
        name: ["dagster.celery.yaml"] for name in (*CODE, *DAGSTER)
    }
    assert {services[name]["image"] for name in (*CODE, *DAGSTER)} == {"sequin-pipeline:0.2.0-engines"}


def test_redis_and_workers_are_of_the_profile_alone_and_without_it_runs_are_children_of_the_code_server(tmp_path: Path) -> None:
    filled(tmp_path, (DEPLOY / "example.env").read_text())

    found = read(tmp_path)["services"]

    assert {name: service["profiles"] for name, service in found.items() if "profiles" in service} == {
        "redis": ["celery"],
        "worker": ["celery"],
    }
    assert [volume for volume in found["code"]["volumes"] if volume.endswith(":/opt/dagster/home/dagster.yaml:ro")] == [
        f"{tmp_path}/dagster.yaml:/opt/dagster/home/dagster.yaml:ro"
    ]


def test_only_the_ui_is_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    """Dagster's UI knows no password."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert published == {"webserver": ["127.0.0.1:3000:3000/tcp"]}


@pytest.mark.parametrize("name", DAGSTER)
def test_what_runs_no_code_gets_neither_the_warehouse_nor_a_key(services: dict[str, Any], name: str) -> None:
    assert {"WAREHOUSE_URL", "SEQUIN_COLLECTIONS", "STRIPE_API_KEY"}.isdisjoint(services[name]["environment"])


@pytest.mark.parametrize("name", CODE)
def test_what_runs_code_gets_the_warehouse_the_collections_and_the_keys(services: dict[str, Any], name: str) -> None:
    given = services[name]["environment"]

    assert given["WAREHOUSE_URL"] == "postgresql://sequin:of-the-role@postgres:5432/warehouse"
    assert given["DAGSTER_POSTGRES_URL"] == "postgresql+psycopg2://sequin:of-the-role@postgres:5432/dagster"
    assert (given["SEQUIN_COLLECTIONS"], given["STRIPE_API_KEY"]) == ("/collections", SOURCE_KEY)


def test_nobody_but_postgres_knows_the_superusers_password(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if SECRETS["POSTGRES_PASSWORD"] in str(service)] == ["postgres"]


def test_each_process_gives_up_the_rights_of_root_and_has_a_bounded_log(services: dict[str, Any]) -> None:
    for name in (*CODE, *DAGSTER):
        assert services[name]["cap_drop"] == ["ALL"], name
        assert services[name]["security_opt"] == ["no-new-privileges:true"], name
        assert services[name]["logging"]["options"] == {"max-size": "20m", "max-file": "5"}, name


def test_a_worker_reads_the_broker_of_the_launcher_and_hears_the_signal_to_stop(services: dict[str, Any]) -> None:
    """Celery's own program takes both from its variables. dagster-celery's would be told to stop in its place, and not tell it."""
    worker, daemon = services["worker"], services["daemon"]

    assert worker["command"][:4] == ["celery", "-A", "dagster_celery.app", "worker"]
    for name, database in (("CELERY_BROKER_URL", 0), ("CELERY_RESULT_BACKEND", 1)):
        assert worker["environment"][name] == daemon["environment"][name] == f"redis://:of-redis@redis:6379/{database}"


def test_everything_that_goes_on_says_whether_it_is_well(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["migrate"]


@pytest.mark.parametrize(
    "name", ["POSTGRES_PASSWORD", "SEQUIN_DATABASE_PASSWORD", "WAREHOUSE_URL", "DAGSTER_POSTGRES_URL", "COLLECTIONS_FOLDER"]
)
def test_what_is_not_filled_in_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    filled(tmp_path, (DEPLOY / "example.env").read_text())
    env = tmp_path / ".env"
    env.write_text(re.sub(rf"^{name}=.*$", f"{name}=", env.read_text(), flags=re.MULTILINE))

    status, _, stderr = config(tmp_path)

    assert status == 1
    assert "set it in deploy/.env" in stderr
    assert name in stderr
