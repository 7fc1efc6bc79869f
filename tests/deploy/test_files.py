"""The files of deploy/ say the same as the project: its limits, its environment, its version, its packages."""

import re
from typing import Any

import pytest
import yaml

from sequin_pipeline.cli.session import DAGSTER_EVENTS, KEPT_MEMORY
from tests.deploy.chart import VALUES, instance_of
from tests.deploy.tools import DEPLOY
from tests.support.checkout import CHECKOUT

PRINTED = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
CELERY = {
    "module": "dagster_celery.launcher",
    "class": "CeleryRunLauncher",
    "config": {"broker": {"env": "CELERY_BROKER_URL"}, "backend": {"env": "CELERY_RESULT_BACKEND"}},
}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def instance(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CHECKOUT / name).read_text())
    return read


def test_the_instance_of_containers_differs_from_the_checkouts_in_where_prints_go() -> None:
    assert instance("deploy/dagster.yaml") == instance("dagster.yaml") | {"compute_logs": PRINTED}


def test_the_instance_of_celery_differs_from_that_of_containers_in_who_launches_and_how_long_a_run_waits() -> None:
    containers = instance("deploy/dagster.yaml")
    monitoring = containers["run_monitoring"] | {"start_timeout_seconds": 3600}

    assert instance("deploy/dagster.celery.yaml") == containers | {"run_launcher": CELERY, "run_monitoring": monitoring}


@pytest.mark.parametrize("key", ["concurrency", "run_retries", "python_logs", "telemetry", "nux"])
def test_the_chart_makes_of_our_values_what_the_checkouts_instance_says(key: str) -> None:
    assert instance_of(VALUES)[key] == instance("dagster.yaml")[key]


def test_the_chart_waits_for_a_pod_as_long_as_celery_for_a_place() -> None:
    made = instance_of(VALUES)["run_monitoring"]

    assert made == instance("deploy/dagster.celery.yaml")["run_monitoring"] | {
        "max_resume_run_attempts": 0,
        "poll_interval_seconds": 120,
    }


def test_the_image_sets_what_our_commands_set_for_the_processes_that_they_start() -> None:
    said = dict(re.findall(r"([A-Z_]+)=(\S+)", "\n".join(re.findall(r"^ENV (?:.*\\\n)*.*$", DOCKERFILE, flags=re.MULTILINE))))

    assert {name: said.get(name) for name in {**DAGSTER_EVENTS, **KEPT_MEMORY}} == {**DAGSTER_EVENTS, **KEPT_MEMORY}


def test_the_image_is_no_root_and_says_so_by_number() -> None:
    """Kubernetes' runAsNonRoot refuses a name."""
    assert re.findall(r"^USER (.*)$", DOCKERFILE, flags=re.MULTILINE) == ["10001:10001"]


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "example.env", "values.yaml"])
def test_images_have_the_version_of_the_package(name: str) -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (CHECKOUT / "pyproject.toml").read_text(), flags=re.MULTILINE)

    said = re.findall(r"(?:sequin-pipeline:|tag: )([0-9][\w.]*)", (DEPLOY / name).read_text())

    assert set(said) == {version}


def test_the_chart_has_the_release_of_the_locked_dagster() -> None:
    (locked,) = re.findall(r"^dagster==(\S+)", (DEPLOY / "requirements.lock").read_text(), flags=re.MULTILINE)

    assert set(re.findall(r"1\.\d+\.\d+", (DEPLOY / "values.yaml").read_text())) == {locked}


@pytest.mark.parametrize("name", ["compose.yaml", "values.yaml", "dagster.yaml", "dagster.celery.yaml", "Dockerfile"])
def test_no_file_holds_a_password(name: str) -> None:
    """A password stands in a variable, or in a secret that the file names."""
    text = (DEPLOY / name).read_text()

    assert re.findall(r"://[^/\s:@{}]*:[^${@\s/]+@", text) == []
    assert re.findall(r"(?i)^\s*\S*(?:password|token|key):[ ]*(?![\"']?[$&*{])\S+$", text, flags=re.MULTILINE) == []
