"""What Dagster's Helm chart makes of values.yaml, as far as it decides how our runs run: its dagster.yaml and the context of runs.

The chart itself is in no package of a registry. Where DAGSTER_CHART names an unpacked one, test_chart.py compares what helm makes of it
with this.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from tests.deploy.tools import DEPLOY

RELEASE, NAMESPACE = "sequin", "default"
VALUES: Mapping[str, Any] = yaml.safe_load((DEPLOY / "values.yaml").read_text())
(DEPLOYMENT,) = VALUES["dagster-user-deployments"]["deployments"]
IMAGE = f"{DEPLOYMENT['image']['repository']}:{DEPLOYMENT['image']['tag']}"
USER_ENVIRONMENT = f"{RELEASE}-dagster-user-deployments-{DEPLOYMENT['name']}-user-env"


def instance_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The dagster.yaml that the chart writes."""
    postgres, daemon, home = values["postgresql"], values["dagsterDaemon"], values["global"]["dagsterHome"]
    storage = {
        "postgres_db": {
            "username": postgres["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": postgres["postgresqlHost"],
            "db_name": postgres["postgresqlDatabase"],
            "port": postgres.get("service", {}).get("port", 5432),
            "params": postgres.get("postgresqlParams", {}),
            "scheme": postgres["postgresqlScheme"],
        }
    }
    launcher, limits = values["runLauncher"]["config"]["k8sRunLauncher"], values["concurrency"]
    monitoring, retries = daemon["runMonitoring"], daemon["runRetries"]
    threads = {"use_threads": True, "num_workers": 4}
    return {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        "schedule_storage": _class("dagster_postgres.schedule_storage", "PostgresScheduleStorage", storage),
        "run_storage": _class("dagster_postgres.run_storage", "PostgresRunStorage", storage),
        "event_log_storage": _class("dagster_postgres.event_log", "PostgresEventLogStorage", storage),
        "run_launcher": _class(
            "dagster_k8s",
            "K8sRunLauncher",
            {
                "load_incluster_config": launcher.get("loadInclusterConfig", True),
                **({"kubeconfig_file": launcher["kubeconfigFile"]} if "kubeconfigFile" in launcher else {}),
                "job_namespace": NAMESPACE,
                "image_pull_policy": launcher["imagePullPolicy"],
                "service_account_name": f"{RELEASE}-dagster",
                "dagster_home": home,
                "instance_config_map": f"{RELEASE}-dagster-instance",
                "postgres_password_secret": values["global"]["postgresqlSecretName"],
                "security_context": launcher["securityContext"],
                "run_k8s_config": {
                    "pod_spec_config": launcher["runK8sConfig"]["podSpecConfig"],
                    "job_spec_config": launcher["runK8sConfig"]["jobSpecConfig"],
                },
            },
        ),
        "run_coordinator": _class(
            "dagster.core.run_coordinator", "QueuedRunCoordinator", {"dequeue_use_threads": True, "dequeue_num_workers": 4}
        ),
        "concurrency": {
            "pools": {"default_limit": limits["pools"]["defaultLimit"], "granularity": limits["pools"]["granularity"]},
            "runs": {
                "max_concurrent_runs": limits["runs"]["maxConcurrentRuns"],
                "tag_concurrency_limits": limits["runs"]["tagConcurrencyLimits"],
            },
        },
        "compute_logs": {"module": "dagster.core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
        "python_logs": {"managed_python_loggers": values["pythonLogs"]["managedPythonLoggers"]},
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "max_runtime_seconds": monitoring["maxRuntimeSeconds"],
            "max_resume_run_attempts": 0,
            "poll_interval_seconds": 120,
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "run_retries": {
            "enabled": retries["enabled"],
            "max_retries": retries["maxRetries"],
            "retry_on_asset_or_op_failure": retries["retryOnAssetOrOpFailure"],
        },
        "sensors": threads,
        "schedules": threads,
        "telemetry": values["telemetry"],
        **values["additionalInstanceConfig"],
    }


def _class(module: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": module, "class": name, "config": config}


def run_context_of(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """What the code server tells the launcher to give to the pods of its runs."""
    return {
        "k8s": {
            "image_pull_policy": deployment["image"]["pullPolicy"],
            "env_config_maps": [USER_ENVIRONMENT],
            "env_secrets": [secret["name"] for secret in deployment["envSecrets"]],
            "volume_mounts": deployment["volumeMounts"],
            "volumes": deployment["volumes"],
            "resources": deployment["resources"],
            "namespace": NAMESPACE,
            "service_account_name": f"{RELEASE}-dagster-user-deployments-user-deployments",
            "env": deployment["env"],
            "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
        }
    }


def code_server_variables(deployment: Mapping[str, Any]) -> dict[str, str]:
    return {
        "DAGSTER_CURRENT_IMAGE": f"{deployment['image']['repository']}:{deployment['image']['tag']}",
        "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT": json.dumps(run_context_of(deployment)),
    }
