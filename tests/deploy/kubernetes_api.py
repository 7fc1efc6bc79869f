"""A stand-in for the API of Kubernetes: it takes jobs, and runs the command of each container as a process, as a node would.

The process knows no more than the job names: variables, config maps and secrets, and the files of the volumes of config maps, written
where they are mounted. A name that is not there refuses the job.
"""

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import environment
from tests.support.waits import PATIENCE_SECONDS

Object = dict[str, Any]
Keys = Mapping[str, str]


@dataclass(frozen=True)
class Cluster:
    """What is in the cluster, and the jobs that were made."""

    folder: Path
    secrets: Mapping[str, Keys]
    config_maps: Mapping[str, Keys]
    jobs: dict[str, Object] = field(default_factory=dict)
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def start(self, name: str, pod: Object) -> None:
        (container,) = pod["containers"]
        self._mount(pod, container)
        variables = self.variables_of(container)
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [*(container.get("command") or ()), *(container.get("args") or ())]
            self.processes[name] = subprocess.Popen(
                command, cwd=self.folder, env=environment(**variables), stdout=log, stderr=log
            )

    def variables_of(self, container: Object) -> dict[str, str]:
        variables: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            if "secretRef" in source:
                variables |= self.secrets[source["secretRef"]["name"]]
            else:
                variables |= self.config_maps[source["configMapRef"]["name"]]
        for one in container.get("env") or ():
            key = one.get("valueFrom", {}).get("secretKeyRef")
            variables[one["name"]] = self.secrets[key["name"]][key["key"]] if key else one["value"]
        return variables

    def _mount(self, pod: Object, container: Object) -> None:
        volumes = {volume["name"]: volume["configMap"] for volume in pod.get("volumes") or ()}
        for mount in container.get("volumeMounts") or ():
            volume, path = volumes[mount["name"]], Path(mount["mountPath"])
            assert path.is_relative_to(self.folder), path
            keys = self.config_maps[volume["name"]]
            files = {item["path"]: keys[item["key"]] for item in volume.get("items") or ()} or keys
            for name, content in files.items():
                if mount.get("subPath", name) == name:
                    target = path if "subPath" in mount else path / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(content)

    def wait(self) -> None:
        """Until each job has ended."""
        for name in list(self.jobs):
            # Three processes, one after the other.
            self.processes[name].wait(3 * PATIENCE_SECONDS)

    def status_of(self, name: str) -> Object:
        ended = self.processes[name].poll()
        return {"active": 1} if ended is None else {"succeeded": 1} if ended == 0 else {"failed": 1}


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            self.cluster.start(job["metadata"]["name"], job["spec"]["template"]["spec"])
        except KeyError as error:
            self._answer(422, {"kind": "Status", "message": f"{error} is not in the cluster"})
        else:
            self.cluster.jobs[job["metadata"]["name"]] = job
            self._answer(201, job)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.removesuffix("/status").rpartition("/")[2]
        if name in self.cluster.jobs:
            self._answer(200, {**self.cluster.jobs[name], "status": self.cluster.status_of(name)})
        else:
            self._answer(404, {"kind": "Status", "message": f"{path} is not there"})

    def _answer(self, status: int, body: Object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the parent's
        """Says nothing: what was asked stands in the cluster."""


@contextmanager
def serving(cluster: Cluster) -> Iterator[Path]:
    """Serves the cluster on loopback, and gives the file that names it to Kubernetes' clients."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        kubeconfig = cluster.folder / "kubeconfig.yaml"
        address = f"http://127.0.0.1:{server.server_port}"
        named: dict[str, Object] = {"clusters": {"cluster": {"server": address}}, "users": {"user": {}}}
        context = {"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "default"}}
        parts = {kind: [{"name": "c", **one}] for kind, one in named.items()}
        content = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context], **parts}
        kubeconfig.write_text(yaml.safe_dump(content))
        yield kubeconfig
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for process in cluster.processes.values():
            process.kill()
            process.wait()
