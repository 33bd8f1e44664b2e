"""One run of the homelab, from empty to all layers Ready, for many tests to look at."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed import outside, tools
from testbed.api import Api
from testbed.chartserver import ChartServer, chart
from testbed.homelab import Homelab
from testbed.outside import LAYERS, STACKS, Owned

PATIENCE = 600.0
SETTLED = 3.0  # seconds without a write
BESIDE = "beside"

# What the runner charts really do, whose copies in the data set are static: no controller, no rendering.
ASKING = """
{{- $found := lookup "apps/v1" "Deployment" "arc-systems" "" }}
{{- $name := "" }}
{{- range $found.items }}{{ $name = .spec.template.spec.serviceAccountName }}{{ end }}
{{- if not $name }}{{ fail "no controller deployment is found in arc-systems" }}{{ end }}
apiVersion: v1
kind: ConfigMap
metadata: {name: runner}
data: {controller: "{{ $name }}"}
"""


@dataclass
class Run:
    """What is left when all layers are Ready; `since` is where the audit log stood when the stack was applied."""

    homelab: Homelab
    since: int
    stack: Mapping[str, Any]
    inventories: dict[str, list[Owned]] = field(default_factory=dict)
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.homelab.plane.api

    def look(self) -> None:
        """Read what the tests look at: inventories, and every status that was published, in order."""
        self.inventories = outside.inventories(self.api, self.homelab.name)
        self.statuses = list(self._published())

    def _published(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for event in self.homelab.plane.audit(self.since):
            about, after = event.get("objectRef") or {}, event.get("responseObject") or {}
            if about.get("resource") in ("stacklayers", "clusterstacks") and "status" in after:
                yield after["metadata"]["name"], after["status"]

    def layer(self, name: str) -> dict[str, Any]:
        """The status of a layer as it is now."""
        status: dict[str, Any] = self.api.get(f"{LAYERS}/{self.homelab.name}.{name}")["status"]
        return status

    def blockers(self, layer: str) -> list[tuple[str, dict[str, Any]]]:
        """Everything that was ever said to be in the way of a layer's being Ready, with the layer's phase then."""
        name = f"{self.homelab.name}.{layer}"
        return [
            (str(status.get("phase")), one)
            for who, status in self.statuses
            if who == name
            for one in status.get("blocking") or ()
        ]

    def blocked(self, layer: str) -> set[tuple[str, str]]:
        """The kinds of the objects among them, each with the reason."""
        return {(one.get("kind", ""), one.get("reason", "")) for _, one in self.blockers(layer)}

    def settle(self) -> int:
        """Wait until nothing has been written for a while; where the audit log stands then."""
        deadline = time.monotonic() + 60
        while True:
            before = self.homelab.plane.audit_offset()
            time.sleep(SETTLED)
            if not self.homelab.writes(before):
                return self.homelab.plane.audit_offset()
            assert time.monotonic() < deadline, lines(self.homelab.writes(before))

    def after(self, since: int) -> list[str]:
        """What was written since, once there is nothing more to come."""
        self.settle()
        return lines(self.homelab.writes(since))

    def versions(self) -> dict[outside.Item, str]:
        """The resourceVersion of every Secret and ConfigMap of the inventories."""
        plural = {"Secret": "secrets", "ConfigMap": "configmaps"}
        items = [one.item for owned in self.inventories.values() for one in owned]
        wanted = [item for item in items if item.group == "" and item.kind in plural]
        return {item: str(self._find(plural[item.kind], item)["metadata"]["resourceVersion"]) for item in wanted}

    def _find(self, plural: str, item: outside.Item) -> Any:
        return self.api.get(f"/api/v1/namespaces/{item.namespace}/{plural}/{item.name}")

    def helm(self, *arguments: str) -> Any:
        """The answer of the real `helm` command."""
        argv = [str(tools.binary("helm")), "--kubeconfig", str(self.homelab.plane.kubeconfig), *arguments]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.homelab.workdir / "helm")}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(done.stdout)


def lines(writes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Writes as text: verb, resource, and what it is called."""
    found = []
    for event in writes:
        ref = event["objectRef"]
        resource = "/".join(filter(None, (ref.get("resource"), ref.get("subresource"))))
        found.append(f"{event['verb']} {resource} {ref.get('namespace', '')}/{ref.get('name', '')}")
    return found


def beside(charts: ChartServer) -> dict[str, Any]:
    """A second stack, with a chart that looks for the runners' controller and refuses to render without it."""
    charts.publish(chart("runner", "1.0.0", {"templates/runner.yaml": ASKING}))
    release = {"name": "runner", "namespace": "default", "repo": charts.url, "chart": "runner", "version": "1.0.0"}
    return {
        "apiVersion": "clusterstack.dev/v1alpha1",
        "kind": "ClusterStack",
        "metadata": {"name": BESIDE},
        "spec": {"layers": [{"name": "runners", "charts": [release]}], "defaults": {"timeout": "15m"}},
    }


@contextlib.contextmanager
def bring_up(workdir: Path) -> Iterator[Run]:
    """The example as it stands, the second stack beside it, seconds of delay as real controllers have them."""
    with ChartServer() as charts, Homelab(workdir=workdir, seed=7, scale=0.5) as homelab:
        since = homelab.plane.audit_offset()
        homelab.plane.api.apply(f"{STACKS}/{BESIDE}", beside(charts), manager="kubectl")
        homelab.apply()
        run = Run(homelab, since, homelab.wait_ready(timeout=PATIENCE))
        homelab.plane.api.wait(f"{STACKS}/{BESIDE}", lambda found: found["status"].get("phase") == "Ready", timeout=60)
        run.look()
        yield run
