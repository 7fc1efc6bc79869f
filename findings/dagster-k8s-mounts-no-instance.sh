#!/usr/bin/env bash
# What surprises: K8sRunLauncher demands instance_config_map, "the name of an existing Volume to mount into the pod in order to provide a ConfigMap for
#   the Dagster instance", sets DAGSTER_HOME in each run's pod, and mounts nothing there. A run gets its own instance by its command line. Code that asks
#   for one (DagsterInstance.get() in an asset) gets a fresh local one of SQLite in that folder, which a line of its output says, and finds no run in it.
# Who meets it: whoever reads runs or events from within an asset or op, which works in every other deployment, and then runs by Dagster's Helm chart.
# Version: dagster-k8s 0.29.27 with dagster 1.13.27, kubernetes 36.0.3.
# Source: description of the field in dagster_k8s.job.DagsterK8sJobConfig; docs.dagster.io, Deploying Dagster on Kubernetes.
# Instead: context.instance, which is the run's; or volumes and volume_mounts of the launcher, which name the config map once more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 dagster-k8s==0.29.27 kubernetes==36.0.3
mkdir "$folder/home"
cd "$folder"
"$folder/venv/bin/python" - "$folder/home" <<'PYTHON'
import os
import sys
from importlib.metadata import version

import dagster as dg
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

config = DagsterK8sJobConfig(job_image="image:1", dagster_home=sys.argv[1], instance_config_map="dagster-instance")
job = construct_dagster_k8s_job(config, ["dagster", "api", "execute_run", "..."], "dagster-run-1")
pod = job.spec.template.spec
(container,) = pod.containers
variables = {one.name: one.value for one in container.env or ()}
mounted = [volume.config_map.name for volume in pod.volumes or () if volume.config_map]

# What code in such a pod finds, whose image has that folder.
os.environ["DAGSTER_HOME"] = variables["DAGSTER_HOME"]
with dg.DagsterInstance.get() as instance:
    storage = type(instance.run_storage).__name__

print(f"dagster-k8s {version('dagster-k8s')}, dagster {version('dagster')}")
print(f"DAGSTER_HOME is that of the config: {variables['DAGSTER_HOME'] == sys.argv[1]}; config maps mounted: {mounted}")
print(f"DagsterInstance.get() in that folder has a {storage}")
as_described = mounted == [] and variables["DAGSTER_HOME"] == sys.argv[1] and storage == "SqliteRunStorage"
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
