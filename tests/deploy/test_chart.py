"""Dagster's own Helm chart renders values.yaml: where DAGSTER_CHART names an unpacked chart, since no registry of packages has one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import DEPLOYMENT, RELEASE, VALUES, code_server_variables, instance_of
from tests.deploy.tools import BIN, DEPLOY, needs_tools, run

CHART = os.environ.get("DAGSTER_CHART")

pytestmark = [
    pytest.mark.processes,
    needs_tools,
    pytest.mark.skipif(
        CHART is None, reason="DAGSTER_CHART names no unpacked chart of Dagster, and no registry of packages has one"
    ),
]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The chart's schema of values asks a web address for that of the pods.
    options: list[str | Path] = ["--skip-schema-validation", "--kube-version", "1.34", "--values", DEPLOY / "values.yaml"]
    made = run([helm, "template", RELEASE, str(CHART), *options])
    assert made.returncode == 0, made.stderr
    path = tmp_path_factory.mktemp("rendered") / "objects.yaml"
    path.write_text(made.stdout)
    return path


def named(rendered: Path, kind: str, name: str) -> Object:
    found: list[Object] = [
        one for one in yaml.safe_load_all(rendered.read_text()) if one["kind"] == kind and one["metadata"]["name"] == name
    ]
    assert len(found) == 1
    return found[0]


def test_every_object_is_one_of_the_api(rendered: Path) -> None:
    checked = run([BIN / "kubernetes-validate", "--strict", "-k", "1.34", rendered])

    assert (checked.returncode, checked.stderr) == (0, "")
    kinds = [one["kind"] for one in yaml.safe_load_all(rendered.read_text())]
    assert {kind: kinds.count(kind) for kind in ("Deployment", "NetworkPolicy", "Role")} == {
        "Deployment": 3,
        "NetworkPolicy": 2,
        "Role": 2,
    }


def test_its_dagster_yaml_is_the_one_that_the_other_tests_take(rendered: Path) -> None:
    made = named(rendered, "ConfigMap", f"{RELEASE}-dagster-instance")["data"]["dagster.yaml"]

    assert yaml.safe_load(made) == instance_of(VALUES)


def test_its_code_server_gives_runs_the_context_that_the_other_tests_take(rendered: Path) -> None:
    deployment = named(rendered, "Deployment", f"{RELEASE}-dagster-user-deployments-{DEPLOYMENT['name']}")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    said = {one["name"]: one.get("value") for one in container["env"]}

    expected = code_server_variables(DEPLOYMENT)
    context = "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"
    assert json.loads(said[context]) == json.loads(expected[context])
    assert said["DAGSTER_CURRENT_IMAGE"] == expected["DAGSTER_CURRENT_IMAGE"]


@pytest.mark.parametrize("component", ["dagster-webserver", "user-deployments"])
def test_each_network_policy_selects_the_pods_that_it_is_for(rendered: Path, component: str) -> None:
    objects = list(yaml.safe_load_all(rendered.read_text()))
    (policy,) = [
        one
        for one in objects
        if one["kind"] == "NetworkPolicy" and one["spec"]["podSelector"]["matchLabels"]["component"] == component
    ]
    selected = policy["spec"]["podSelector"]["matchLabels"].items()

    labels = [one["spec"]["template"]["metadata"]["labels"] for one in objects if one["kind"] == "Deployment"]

    assert [one["component"] for one in labels if selected <= one.items()] == [component]
