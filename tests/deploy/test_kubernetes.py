"""Dagster's launcher and executor for Kubernetes run our jobs, with the instance and the context that its chart makes of values.yaml.

The API of Kubernetes is a stand-in; what Dagster asks of it is compared with the real API's schema.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.deploy.chart import IMAGE, RELEASE, USER_ENVIRONMENT, VALUES, code_server_variables, instance_of
from tests.deploy.kubernetes_api import Cluster, serving
from tests.deploy.tools import BIN, DEPLOY, needs_tools, run
from tests.orchestration.files import HEAD
from tests.support.builders import record
from tests.support.postgres import PostgresServer
from tests.support.reading import query
from tests.support.waits import wait_until

pytestmark = [pytest.mark.processes, needs_tools, pytest.mark.xdist_group("kubernetes")]

PASSWORD, TOKEN = "of-the-storage", "of-the-api"
DECLARED = f"""{HEAD}\
  provider: demo
  windows: {{every: month, start: 2024-01-01}}
  collections: {{thing: {{}}}}
"""
RECORDS = [record(f"thing-{number}", number) for number in range(1, 6)]
LIVE = {
    "sequin_pipeline/mode": "live",
    "dagster/asset_partition_range_start": "2024-01",
    "dagster/asset_partition_range_end": "2024-01",
}
LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class World:
    """What a run left behind: its pods, the warehouse and Dagster's storage."""

    cluster: Cluster
    warehouse_url: str
    dagster_url: str

    def events(self, *kinds: str) -> list[str]:
        """The types of the run's events, as far as they are of these kinds."""
        told = query(
            self.dagster_url, "select dagster_event_type from event_logs where dagster_event_type = any(%s)", list(kinds)
        )
        return [kind for (kind,) in told]


def values_here(folder: Path, server: PostgresServer, database: str) -> dict[str, Any]:
    """Our values, with the folders, the Postgres and the API server of this machine in the place of the cluster's."""
    written = (
        json.dumps(VALUES).replace("/opt/dagster/home", f"{folder}/home").replace('"/collections"', f'"{folder}/collections"')
    )
    values: dict[str, Any] = json.loads(written)
    socket_directory = {"host": str(server.socket_directory)}
    values["postgresql"] |= {"postgresqlHost": "", "postgresqlUsername": "postgres", "postgresqlDatabase": database}
    values["postgresql"] |= {"postgresqlParams": socket_directory}
    values["runLauncher"]["config"]["k8sRunLauncher"] |= {
        "loadInclusterConfig": False,
        "kubeconfigFile": f"{folder}/kubeconfig.yaml",
    }
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    deployment["volumes"][0]["configMap"]["items"] = [{"key": "demo", "path": "demo/defs.yaml"}]
    deployment["env"].append({"name": "SEQUIN_EXECUTOR", "value": "k8s"})
    return values


def start_code_server(cluster: Cluster, deployment: Mapping[str, Any]) -> Path:
    """As the chart's deployment does, and in a folder of its own; returns its socket once it listens."""
    address = cluster.folder / "code.sock"
    variables = [{"name": name, "value": value} for name, value in code_server_variables(deployment).items()]
    container = {
        "args": ["dagster", "api", "grpc", "--socket", str(address), *deployment["dagsterApiGrpcArgs"]],
        "env": [*variables, *deployment["env"]],
        "envFrom": [{"secretRef": secret} for secret in deployment["envSecrets"]],
        "volumeMounts": deployment["volumeMounts"],
    }
    cluster.start("code", {"containers": [container], "volumes": deployment["volumes"]})
    wait_until(lambda: cluster.processes["code"].poll() is not None or listens(address), "the code server")
    return address


def listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(address)) == 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, dagster_template: str) -> Iterator[World]:
    """One live run of a collection, launched by what the chart makes of our values, with a job for each of its two steps.

    It costs some 20 seconds of a processor.
    """
    folder = tmp_path_factory.mktemp("kubernetes")
    database, warehouse = postgres_server.make_database(dagster_template), postgres_server.make_database()
    values = values_here(folder, postgres_server, database)
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    instance = yaml.safe_dump(instance_of(values))
    (folder / "daemon").mkdir()
    (folder / "daemon" / "dagster.yaml").write_text(instance)
    lines = [json.dumps(one).encode() for one in RECORDS]
    with running_sandbox(RecordedFeed(lines), Settings(token=TOKEN)) as api_url:
        sources = {"WAREHOUSE_URL": postgres_server.url(warehouse), "SEQUIN_API_URL": api_url, "SEQUIN_API_TOKEN": TOKEN}
        secrets = {"sequin-dagster": {"postgresql-password": PASSWORD}, "sequin-sources": sources}
        config_maps = {
            f"{RELEASE}-dagster-instance": {"dagster.yaml": instance},
            USER_ENVIRONMENT: {},
            "sequin-collections": {"demo": DECLARED},
        }
        cluster = Cluster(folder, secrets, config_maps)
        with serving(cluster):
            address = start_code_server(cluster, deployment)
            workspace = folder / "workspace.yaml"
            server = {"grpc_server": {"socket": str(address), "location_name": deployment["name"]}}
            workspace.write_text(yaml.safe_dump({"load_from": [server]}))
            daemon = {"DAGSTER_HOME": f"{folder}/daemon", "DAGSTER_PG_PASSWORD": PASSWORD}
            launched = run([BIN / "python", LAUNCH, workspace, "sync_demo", json.dumps(LIVE)], folder=folder, **daemon)
            assert launched.returncode == 0, (launched.stderr, (folder / "code.log").read_text())
            cluster.wait()
            yield World(cluster, postgres_server.url(warehouse), postgres_server.url(database))


def test_a_run_is_a_job_and_each_of_its_steps_another_and_they_merge_every_record(world: World) -> None:
    jobs = list(world.cluster.jobs)
    log = (world.cluster.folder / f"{jobs[0]}.log").read_text()

    assert query(world.dagster_url, "select status from runs") == [("SUCCESS",)], log
    assert [name.split("-")[1] for name in jobs] == ["run", "step", "step"]
    assert [world.cluster.status_of(name) for name in jobs] == [{"succeeded": 1}] * 3
    assert query(world.warehouse_url, "select count(*) from demo.thing") == [(5,)]


def test_its_events_are_in_the_storage_that_the_chart_names(world: World) -> None:
    assert world.events("ASSET_MATERIALIZATION", "STEP_FAILURE", "RUN_FAILURE") == ["ASSET_MATERIALIZATION"]


def test_each_job_has_the_image_the_secrets_and_the_collections_of_the_code_server(world: World) -> None:
    for name, job in world.cluster.jobs.items():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]

        assert container["image"] == IMAGE, name
        assert {"secretRef": {"name": "sequin-sources"}} in container["envFrom"], name
        assert [volume["configMap"]["name"] for volume in pod["volumes"]] == ["sequin-collections"], name
        assert container["resources"] == {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (0, 86400), name


def test_each_job_is_one_of_the_api(world: World, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.yaml"
    jobs.write_text(yaml.safe_dump_all(world.cluster.jobs.values()))

    checked = run([BIN / "kubernetes-validate", "--strict", "-k", "1.34", jobs])

    assert (checked.returncode, checked.stderr) == (0, "")


def test_no_secret_stands_in_a_job(world: World) -> None:
    """Whoever may list jobs may not read secrets."""
    written = json.dumps(list(world.cluster.jobs.values()))

    assert [secret for secret in (PASSWORD, TOKEN, world.warehouse_url) if secret in written] == []


def test_each_network_policy_is_one_of_the_api_and_lets_in_nobody_but_web_server_and_daemon(helm: Path, tmp_path: Path) -> None:
    """Rendered by helm in a chart that has nothing but the chart's line for manifests of one's own."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: manifests, version: 1.0.0}")
    (chart / "templates" / "all.yaml").write_text("{{ range .Values.extraManifests }}\n---\n{{ tpl (toYaml .) $ }}\n{{ end }}")
    policies = tmp_path / "policies.yaml"

    rendered = run([helm, "template", RELEASE, chart, "--values", DEPLOY / "values.yaml"])
    policies.write_text(rendered.stdout)
    checked = run([BIN / "kubernetes-validate", "--strict", "-k", "1.34", policies])

    assert (rendered.returncode, rendered.stderr, checked.returncode, checked.stderr) == (0, "", 0, "")
    closed, code = (one["spec"] for one in yaml.safe_load_all(rendered.stdout))
    pods = [selector["podSelector"]["matchLabels"] for selector in code["ingress"][0]["from"]]
    assert (closed["policyTypes"], closed.get("ingress", [])) == (["Ingress"], [])
    assert pods == [
        {"component": component, "app.kubernetes.io/instance": RELEASE} for component in ("dagster-webserver", "dagster-daemon")
    ]
