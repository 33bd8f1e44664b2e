"""What the end-to-end tests stand on: a control plane with our CRDs, an operator process, charts, and stacks in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from testbed import tools
from testbed.api import Api, ApiError
from testbed.chartserver import ChartServer
from testbed.controlplane import Cluster
from testbed.operator_process import Operator

ROOT = Path(__file__).resolve().parent.parent.parent
NAMESPACE = "clusterstack"
STACKS = "/apis/clusterstack.dev/v1alpha1/clusterstacks"
LAYERS = "/apis/clusterstack.dev/v1alpha1/stacklayers"
PATIENCE = float(os.environ.get("E2E_PATIENCE", "40"))  # seconds
USER_AGENT = "clusterstack/"

_SHOWN = frozenset({"ts", "level", "logger", "msg", "exc"})

Manifest = dict[str, Any]


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{secrets.token_hex(3)}"


def prepare(plane: Cluster) -> None:
    """The CRDs and the namespace that an operator needs."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        name = crd["metadata"]["name"]
        plane.api.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", crd)
        plane.api.wait(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", _established)
    plane.api.apply(f"/api/v1/namespaces/{NAMESPACE}", {"apiVersion": "v1", "kind": "Namespace"} | _named(NAMESPACE))


def _named(name: str) -> Manifest:
    return {"metadata": {"name": name}}


def _established(crd: Any) -> bool:
    conditions = ((crd or {}).get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def config_map(name: str, namespace: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def secret(name: str, namespace: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    }


def release(bed: Bed, chart: str, namespace: str, **fields: Any) -> Manifest:
    """An entry of a layer's `charts:` for a chart of the bed's repository."""
    return {"name": chart, "namespace": namespace, "repo": bed.charts.url, "chart": chart, **fields}


@dataclass
class Bed:
    """A cluster with an operator at work."""

    plane: Cluster
    operator: Operator
    charts: ChartServer
    workdir: Path
    stacks: list[Stack] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.plane.api

    def namespace(self, prefix: str = "ns") -> str:
        """A new namespace."""
        name = unique(prefix)
        self.api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", **_named(name)})
        return name

    def stack(self, *layers: Mapping[str, Any], **spec: Any) -> Stack:
        """A ClusterStack of these layers, applied. It is let go at the end of the test, its objects left."""
        stack = Stack(self, unique("s"), {"layers": list(layers), **spec})
        stack.apply()
        self.stacks.append(stack)
        return stack

    def close(self) -> None:
        """Let go of the stacks of a test, so that the next one counts only its own writes."""
        for stack in self.stacks:
            stack.forget()
        self.stacks.clear()

    def helm(self, *arguments: str, namespace: str, check: bool = True) -> str:
        """The real `helm` command on this cluster; its standard output."""
        home = self.workdir / "helm"
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
        argv = [str(tools.binary("helm")), "--kubeconfig", str(self.plane.kubeconfig), "--namespace", namespace]
        done = subprocess.run(
            [*argv, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def until(self, path: str, holds: Callable[[Any], bool], *, timeout: float = PATIENCE) -> Any:
        """The object at `path` once `holds` is true of it (None: it is not there)."""
        deadline = time.monotonic() + timeout
        while not holds(found := self.api.find(path)):
            self.operator.check()
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} did not get there within {timeout:.0f} s: {found}\n{self.told()}")
            time.sleep(0.05)
        return found

    def records(self, namespace: str, name: str = "") -> list[str]:
        """Revision and status of every release record of a namespace, or of one release: `1 superseded`."""
        selector = "owner%3Dhelm" + (f",name%3D{name}" if name else "")
        found = self.api.get(f"/api/v1/namespaces/{namespace}/secrets?labelSelector={selector}")["items"]
        labels = [item["metadata"]["labels"] for item in found]
        return [f"{version} {status}" for version, status in sorted((int(a["version"]), a["status"]) for a in labels)]

    def until_records(self, namespace: str, *records: str) -> None:
        """Wait for these records and no others."""
        self.until(f"/api/v1/namespaces/{namespace}", lambda _: self.records(namespace) == list(records))

    def writes(self, since: int) -> list[str]:
        """What the operator wrote since, but for its Lease: a line per write."""
        found = self.plane.writes(since, user_agent=USER_AGENT)
        return [one_line(event) for event in found if event["objectRef"].get("resource") != "leases"]

    def told(self) -> str:
        """All stacks and layers, and the end of the operator's log: what a failed wait shows."""
        lines = []
        for collection in (STACKS, LAYERS):
            for item in self.api.get(collection)["items"]:
                status = item.get("status") or {}
                said = status.get("message") or (status.get("summary") or {}).get("message", "")
                lines.append(f"{item['metadata']['name']}: {status.get('phase')} {said}")
                lines += [f"    {unit}" for unit in status.get("units") or ()]
        for line in self.operator.lines()[-20:]:
            lines.append(f"{line['ts']} {line['msg']} { ({k: v for k, v in line.items() if k not in _SHOWN}) }")
            lines.append(line.get("exc", ""))
        return "\n".join(lines)

    def restart(self, *, lose_cache: bool = False, crash: bool = False) -> None:
        """End the operator, politely or not, and start it again."""
        self.operator.kill() if crash else self.operator.stop()
        if lose_cache:
            shutil.rmtree(self.operator.cache, ignore_errors=True)
        self.operator.start()


def one_line(event: Mapping[str, Any]) -> str:
    ref = event["objectRef"]
    resource = "/".join(filter(None, (ref.get("resource"), ref.get("subresource"))))
    return f"{event['verb']} {resource} {ref.get('namespace', '')}/{ref.get('name', '')}"


class Stack:
    """One ClusterStack, seen from outside."""

    def __init__(self, bed: Bed, name: str, spec: Mapping[str, Any]) -> None:
        self.name, self.bed = name, bed
        self.spec: dict[str, Any] = {
            "interval": "10m",
            "defaults": {"retryInterval": "1s", "timeout": "60s"},
            **json.loads(json.dumps(spec)),
        }

    @property
    def path(self) -> str:
        return f"{STACKS}/{self.name}"

    def apply(self, **changes: Any) -> None:
        """Apply the stack, with these fields of its spec changed."""
        self.spec.update(changes)
        manifest = {"apiVersion": "clusterstack.dev/v1alpha1", "kind": "ClusterStack", **_named(self.name)}
        self.bed.api.apply(self.path, {**manifest, "spec": self.spec}, manager="test")

    def edit(self, layer: str, **changes: Any) -> None:
        """Apply the stack with fields of one layer changed; None removes one."""
        for one in self.spec["layers"]:
            if one["name"] == layer:
                one.update(changes)
                for key in [key for key, value in changes.items() if value is None]:
                    del one[key]
        self.apply()

    def reconcile(self) -> None:
        """Ask for a look at everything, and wait until it is done."""
        token = secrets.token_hex(4)
        patch = {"metadata": {"annotations": {"clusterstack.dev/reconcileAt": token}}}
        self.bed.api.request("PATCH", self.path, patch, content_type="application/merge-patch+json")
        self.bed.until(self.path, lambda found: _status(found).get("lastHandledReconcileAt") == token)

    def untouched(self, since: int) -> list[str]:
        """What was written since, up to the moment at which the operator knows the stack as Ready and has verified all
        of it anew; the status that says so is left out."""
        wait_for(self._known_as_ready)
        self.reconcile()
        settle(1.5)  # statuses are written at most once a second
        return [line for line in self.bed.writes(since) if line != f"patch clusterstacks/status /{self.name}"]

    def _known_as_ready(self) -> bool:
        metrics = self.bed.operator.get("/metrics")
        line = 'clusterstack_layer_status{{layer="{}",phase="Ready",stack="{}"}} 1.0'
        return all(line.format(layer["name"], self.name) in metrics for layer in self.spec["layers"])

    def ready(self, *layers: str, timeout: float = PATIENCE) -> None:
        """Wait until these layers, or all of them, are Ready with the newest generation of the stack."""
        generation = self.bed.api.get(self.path)["metadata"]["generation"]
        for layer in layers or [one["name"] for one in self.spec["layers"]]:
            self.phase(layer, "Ready", timeout=timeout)
        if not layers:
            self.bed.until(
                self.path,
                lambda found: (
                    _status(found).get("phase") == "Ready"
                    and condition(found, "Ready")["observedGeneration"] >= generation
                ),
                timeout=timeout,
            )

    def phase(self, layer: str, phase: str, *, says: str = "", timeout: float = PATIENCE) -> Manifest:
        """Wait for a layer's phase, and for a message that contains `says`; its status."""

        def holds(found: Any) -> bool:
            status = _status(found)
            return status.get("phase") == phase and says in status.get("message", "")

        return _status(self.bed.until(self.layer_path(layer), holds, timeout=timeout))

    def layer(self, name: str) -> Manifest:
        """The status of a layer as it is now."""
        return _status(self.bed.api.get(self.layer_path(name)))

    def layer_path(self, name: str) -> str:
        return f"{LAYERS}/{self.name}.{name}"

    def delete(self, *, timeout: float = PATIENCE) -> None:
        """Delete the stack and wait until it is gone."""
        self.bed.api.delete(self.path)
        self.bed.until(self.path, lambda found: found is None, timeout=timeout)

    def forget(self) -> None:
        """Delete the stack, if it is still there, and leave what it made."""
        if self.bed.api.find(self.path) is None:
            return
        self.bed.api.request(
            "PATCH", self.path, {"spec": {"deletionPolicy": "Orphan"}}, content_type="application/merge-patch+json"
        )
        with contextlib.suppress(ApiError):
            self.bed.api.delete(self.path)
        self.bed.until(self.path, lambda found: found is None)


def _status(found: Any) -> Manifest:
    return dict((found or {}).get("status") or {})


def condition(found: Any, kind: str) -> Manifest:
    """A condition of an object; empty when it has none of this type."""
    conditions: Sequence[Manifest] = _status(found).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


@contextlib.contextmanager
def a_bed(plane: Cluster, workdir: Path, *, arguments: Sequence[str] = ()) -> Iterator[Bed]:
    """An operator on a control plane, with a chart server beside it."""
    prepare(plane)
    operator = Operator(
        kubeconfig=plane.kubeconfig,
        workdir=workdir,
        arguments=("--no-lease", "--namespace", NAMESPACE, "--allow-file", *arguments),
    )
    with ChartServer() as charts:
        operator.start()
        try:
            yield Bed(plane, operator, charts, workdir)
        finally:
            operator.stop()


def wait_for(holds: Callable[[], bool], *, timeout: float = PATIENCE) -> None:
    """Poll something that no object of the API server tells."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def settle(seconds: float) -> None:
    """Let time pass where the test is about something that must not happen."""
    time.sleep(seconds)
