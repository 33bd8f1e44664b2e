"""The homelab data set on an empty control plane: its mirror, the simulated controllers, the operator, the example.

The data set is no part of this project: `HOMELAB` says where it is, by default beside the project's folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from testbed import falseready, outside
from testbed.api import ApiError
from testbed.controlplane import ControlPlane
from testbed.operator_process import Operator, free_port
from testbed.outside import LAYERS, RECONCILE, STACKS, own_writes
from testbed.processes import wait_for
from testbed.simulator import Simulator

_ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = _ROOT / "examples" / "homelab" / "clusterstack.yaml"
_MERGE = "application/merge-patch+json"
NAMESPACE = "clusterstack"


def location() -> Path | None:
    """The folder of the data set, or None when there is none."""
    folder = Path(os.environ.get("HOMELAB") or _ROOT.parent / "shared" / "homelab")
    folder = folder if folder.is_absolute() else _ROOT / folder
    return folder.resolve() if (folder / "serve.py").is_file() else None


class NotReadyError(AssertionError):
    """The stack did not get there in time; the message says what every layer waits for."""


class Homelab:
    """Everything for one run. As a context manager it starts all but the stack, and ends all of it.

    `seed`, `scale` and `broken` (see testbed.simulator.broken) are the simulator's.
    """

    def __init__(self, *, workdir: Path, seed: int = 0, scale: float = 1.0, broken: str = "") -> None:
        found = location()
        if found is None:
            raise FileNotFoundError("there is no homelab data set; name its folder with HOMELAB=")
        self.data, self.workdir = found, workdir
        self.plane = ControlPlane()
        self.git = workdir / "infra.git"
        self._cast = partial(Simulator, seed=seed, scale=scale, broken=broken, olm_crds=found / "olm-crds")
        self._port = free_port()
        self._mirror: subprocess.Popen[bytes] | None = None
        self.stack: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
        self.operator: Operator | None = None
        self._simulator: Simulator | None = None

    @property
    def simulator(self) -> Simulator:
        """The controllers; `break_` changes what is played broken."""
        assert self._simulator is not None
        return self._simulator

    @property
    def name(self) -> str:
        return str(self.stack["metadata"]["name"])

    @property
    def path(self) -> str:
        return f"{STACKS}/{self.name}"

    def __enter__(self) -> Self:
        try:
            self._serve()
            self.plane.start(workdir=self.workdir / "plane")
            self._simulator = self._controllers().start()
            self._prepare()
            self.operator = self._operator().start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything that runs; the files stay, but for the bulky ones."""
        if self.operator is not None:
            with contextlib.suppress(Exception):
                self.operator.stop()
        if self._simulator is not None:
            self._simulator.stop()
        self.plane.stop()
        if self._mirror is not None:
            self._mirror.terminate()
            self._mirror.wait()
        for bulky in ("plane/etcd", "plane/snapshots", "cache"):
            shutil.rmtree(self.workdir / bulky, ignore_errors=True)

    def apply(self) -> None:
        """Applies the example, unchanged."""
        self.plane.api.apply(self.path, self.stack, manager="kubectl")

    def wait_ready(self, *, timeout: float) -> dict[str, Any]:
        """The stack once it says that all layers are Ready. Raises NotReadyError, or what the operator died of."""
        return self._wait(_is_ready, timeout=timeout, what=f"{self.name} did not become Ready")

    def reconcile(self, *, timeout: float = 120.0) -> None:
        """Asks for a look at everything and waits until it is handled."""
        token = f"{time.time():.6f}"
        patch = {"metadata": {"annotations": {RECONCILE: token}}}
        self.plane.api.request("PATCH", self.path, patch, content_type=_MERGE)
        self._wait(
            lambda found: found["status"].get("lastHandledReconcileAt") == token,
            timeout=timeout,
            what="reconcileAt was not handled",
        )

    def restart(self, *, lose_cache: bool = False) -> None:
        """Ends the operator as Kubernetes would, and starts it again."""
        assert self.operator is not None
        self.operator.stop()
        if lose_cache:
            shutil.rmtree(self.operator.cache, ignore_errors=True)
        self.operator = self._operator().start()

    def evidence(self, stack: Mapping[str, Any], since: int) -> falseready.Evidence:
        """What the judge of false Readys needs of a run whose stack was applied at that byte of the audit log."""
        api = self.plane.api
        owned = outside.inventories(api, self.name)
        events = [one for one in self.plane.audit(since) if one.get("userAgent", "").startswith(outside.USER_AGENT)]
        return falseready.Evidence(
            stack=self.name,
            events=events,
            journal=self.entries(),
            inventories={layer: [one.item for one in items] for layer, items in owned.items()},
            depends_on=outside.graph(stack),
            kinds=outside.kinds(api),
        )

    def entries(self) -> list[dict[str, Any]]:
        """The simulator's journal."""
        return self.simulator.entries()

    def writes(self, since: int) -> list[dict[str, Any]]:
        """What the operator wrote after that byte of the log, but for its Lease and one answer per reconcileAt."""
        return own_writes(self.plane, since)

    def explain(self) -> str:
        """Every layer's phase and message."""
        lines = []
        for layer in self.plane.api.get(LAYERS)["items"]:
            status = layer.get("status") or {}
            lines.append(f"  {layer['metadata']['name']:24} {status.get('phase', ''):12} {status.get('message', '')}")
        return "\n".join(lines)

    def _wait(self, holds: Callable[[Any], bool], *, timeout: float, what: str) -> dict[str, Any]:
        assert self.operator is not None
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(ApiError, OSError):
                found: dict[str, Any] = self.plane.api.get(self.path)
                if "status" in found and holds(found):
                    return found
            self.operator.check()
            self.plane.check()
            self.simulator.check()
            if time.monotonic() > deadline:
                raise NotReadyError(f"{what} within {timeout:.0f} s\n{self.explain()}")
            time.sleep(0.1)

    def _controllers(self) -> Simulator:
        return self._cast(
            kubeconfig=self.plane.kubeconfig_of("simulator"),
            journal=self.plane.workdir / "journal.jsonl",
            webhooks=self.plane.access.webhooks,
        )

    def _operator(self) -> Operator:
        mirrors = {
            "https://": f"http://127.0.0.1:{self._port}/",
            "oci://": f"oci://127.0.0.1:{self._port}/",
        }
        return Operator(kubeconfig=self.plane.kubeconfig, workdir=self.workdir, mirrors=mirrors)

    def _serve(self) -> None:
        self.workdir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(self.data / "serve.py"), "--port", str(self._port), "--git", str(self.git)]
        with (self.workdir / "mirror.log").open("wb") as log:
            self._mirror = mirror = subprocess.Popen(command, stdout=log, stderr=log)

        def check() -> None:
            if mirror.poll() is not None:
                raise RuntimeError(f"the mirror ended: {(self.workdir / 'mirror.log').read_text()[-2000:]}")

        wait_for(self._answers, what="the mirror's first answer", timeout=60, check=check)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/v2/", timeout=2):
                return True
        except OSError:
            return False

    def _prepare(self) -> None:
        """What every cluster needs before its first stack: our kinds and the operator's namespace."""
        api = self.plane.api
        for path in sorted((_ROOT / "crds").glob("*.yaml")):
            crd = yaml.safe_load(path.read_text())
            where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
            api.apply(where, crd)
            api.wait(where, _is_established)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        api.apply(f"/api/v1/namespaces/{NAMESPACE}", namespace)


def _is_ready(stack: Mapping[str, Any]) -> bool:
    status, summary = stack["status"], stack["status"].get("summary") or {}
    wanted = len(stack["spec"].get("layers") or ()) or summary.get("total")
    ready = status.get("phase") == "Ready" and summary.get("ready") == wanted
    return bool(ready and status.get("observedGeneration") == stack["metadata"]["generation"])


def _is_established(crd: Any) -> bool:
    conditions = ((crd or {}).get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
