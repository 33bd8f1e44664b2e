"""A Kubernetes control plane of real programs on loopback: etcd, API server, controllers, scheduler, KWOK as kubelet.

    with ControlPlane() as plane:
        plane.start(workdir=tmp_path)
        subprocess.run(["kubectl", "--kubeconfig", plane.kubeconfig, "get", "nodes"])

It is up in about three seconds. Several run side by side, and none outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from testbed import audit, components, pki, slots, tools
from testbed.api import Api
from testbed.audit import Events
from testbed.processes import ProcessGroup, wait_for

_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60.0
_GRACE_SECONDS = 3.0
# An API server without its etcd never ends by itself, hence this order.
_STOP_ORDER = ("kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a running control plane. `token` belongs to a member of system:masters."""

    url: str
    token: str
    ca: Path
    kubeconfig: Path
    audit_log: Path
    service_range: str
    webhooks: bool

    def api(self, *, user_agent: str = "testbed") -> Api:
        return Api(self.url, token=self.token, ca=self.ca, user_agent=user_agent)

    def to_json(self) -> dict[str, Any]:
        return {name: str(v) if isinstance(v := getattr(self, name), Path) else v for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Access:
        paths = {name: Path(data[name]) for name in ("ca", "kubeconfig", "audit_log")}
        return cls(**{**{name: data[name] for name in cls.__slots__}, **paths})


class Cluster:
    """A running control plane as tests see it, whoever runs it."""

    def __init__(self, access: Access | None) -> None:
        self._access = access

    @property
    def access(self) -> Access:
        """Raises RuntimeError while there is no control plane yet."""
        if self._access is None:
            raise RuntimeError("the control plane was not started: call start(workdir=…) first")
        return self._access

    @property
    def url(self) -> str:
        return self.access.url

    @property
    def token(self) -> str:
        return self.access.token

    @property
    def ca(self) -> Path:
        return self.access.ca

    @property
    def kubeconfig(self) -> Path:
        return self.access.kubeconfig

    @property
    def audit_log(self) -> Path:
        return self.access.audit_log

    @property
    def service_range(self) -> str:
        return self.access.service_range

    @property
    def api(self) -> Api:
        """A blocking client with all rights."""
        return self.access.api()

    def audit_offset(self) -> int:
        """Where the audit log ends now; pass it to `audit` or `writes` to see only what comes later."""
        return audit.size(self.audit_log)

    def audit(self, since: int = 0) -> Events:
        """Audit events after the byte `since`, oldest first (see testbed.audit)."""
        return audit.read(self.audit_log, since)

    def writes(self, since: int = 0, *, user_agent: str = "", username: str = "") -> list[dict[str, Any]]:
        """Accepted writes after the byte `since`, of the clients whose name starts as given."""
        return audit.writes(self.audit_log, since, user_agent=user_agent, username=username)


class ControlPlane(Cluster):
    """A control plane that this process runs. `start` it once; `stop` it, or use it as a context manager."""

    def __init__(self) -> None:
        super().__init__(None)
        self._settings: components.Settings | None = None
        self._group: ProcessGroup | None = None
        self._extras: dict[str, tuple[Sequence[str | Path], Mapping[str, str]]] = {}
        self._lock: slots.Slot | None = None
        self.workdir = Path()
        self.start_seconds = 0.0

    def start(
        self,
        *,
        workdir: Path,
        webhooks: bool = True,
        controllers: bool = True,
        kwok: bool = True,
        audit: bool = True,
        nodes: int = 1,
        api_server_flags: Sequence[str] = (),
        kwok_config: Path | None = None,
    ) -> Self:
        """Brings a control plane up and returns when it is ready to be used, its nodes Ready.

        `workdir` takes certificates, data and logs, and is left behind. `controllers` are the controller manager and
        the scheduler; without them namespaces never finish terminating and nothing runs. `kwok` plays the kubelets of
        `nodes` nodes; `kwok_config` is a file with Stages that replace its own. Without the right to bind port 443,
        admission webhooks are off whatever `webhooks` says.

        Raises ProcessError with the log of whichever program ended, and testbed.tools.BuildError.
        """
        if self._group is not None:
            raise RuntimeError("this control plane is running already")
        started = time.monotonic()
        binaries = {name: tools.binary(name) for name in components.PROGRAMS}
        self.workdir = workdir.resolve()
        self._lock = slots.take()
        try:
            self._settings = components.Settings(
                binaries=binaries,
                workdir=self.workdir,
                slot=self._lock,
                pki=pki.create(self.workdir / "pki", hosts=components.hosts(self._lock)),
                webhooks=webhooks and _webhooks_possible(),
                controllers=controllers,
                kwok=kwok and controllers,
                audit=audit,
                nodes=nodes,
                api_server_flags=tuple(api_server_flags),
                kwok_config=kwok_config,
                tokens={user: secrets.token_hex(16) for user in components.USERS},
            )
            self._access = self._prepare(self._settings)
            self._launch()
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started
        return self

    def stop(self) -> None:
        """Ends every process, gracefully where that is quick, and frees the slot. Safe to call twice."""
        if self._group is not None:
            self._halt()
            self._group = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> None:
        """Starts a further program that lives and dies with the control plane, such as the simulator."""
        self._started().start(name, argv, env=env)
        self._extras[name] = (argv, env or {})

    def run_simulator(self, *, seed: int = 0, arguments: Sequence[str] = ()) -> Path:
        """Starts testbed.simulator as a user of its own and returns the path of its journal."""
        journal = self.workdir / "journal.jsonl"
        options: dict[str, str | Path] = {
            "--kubeconfig": self.kubeconfig_of("simulator"),
            "--service-range": self.service_range,
            "--seed": str(seed),
            "--journal": journal,
        }
        command: list[str | Path] = [sys.executable, "-m", "testbed.simulator"]
        for option, value in options.items():
            command += [option, value]
        command += [*arguments, *(() if self.access.webhooks else ("--no-webhooks",))]
        self.run("simulator", command, env={"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"})
        return journal

    def kubeconfig_of(self, user: str) -> Path:
        """How one of the programs beside the API server reaches it, such as `simulator`: each is a user of its own."""
        assert self._settings is not None
        return self._settings.kubeconfig(user)

    def end(self, name: str) -> None:
        """Ends a program started with `run`, or one of the control plane's own to see what happens without it."""
        self._extras.pop(name, None)
        self._started().stop(name, grace=_GRACE_SECONDS)

    def pids(self) -> dict[str, int]:
        """Process ids by program."""
        return self._started().pids()

    def rss_mib(self) -> dict[str, float]:
        """Resident memory by program, in MiB."""
        return self._started().rss_mib()

    def check(self) -> None:
        """Raises ProcessError if any program has ended by itself."""
        self._started().check()

    def log_of(self, name: str) -> Path:
        return self.workdir / "logs" / f"{name}.log"

    def snapshot(self) -> Path:
        """Copies etcd's data and returns the copy's folder. Nothing is interrupted for longer than the copy takes.

        etcd is held still meanwhile: the copy is what a crash at that moment would leave, which etcd recovers from.
        """
        target = self.workdir / "snapshots" / secrets.token_hex(4)
        group = self._started()
        group.signal("etcd", signal.SIGSTOP)
        try:
            shutil.copytree(self.workdir / "etcd", target)
        finally:
            group.signal("etcd", signal.SIGCONT)
        return target

    def restore(self, snapshot: Path) -> None:
        """Brings the cluster back to a snapshot of this control plane: everything restarts, at the same address.

        Resource versions go back too, so clients that watched must list anew. The audit log goes on.
        """
        self._started()
        self._halt()
        shutil.rmtree(self.workdir / "etcd")
        shutil.copytree(snapshot, self.workdir / "etcd")
        try:
            self._launch()
            for name, (argv, env) in self._extras.items():
                self._started().start(name, argv, env=env)
        except BaseException:
            self.stop()
            raise

    def _started(self) -> ProcessGroup:
        if self._group is None:
            raise RuntimeError("the control plane is not running")
        return self._group

    def _prepare(self, settings: components.Settings) -> Access:
        components.write_files(settings)
        return Access(
            url=settings.url,
            token=settings.tokens["admin"],
            ca=settings.pki.ca,
            kubeconfig=settings.kubeconfig("admin"),
            audit_log=settings.audit_log,
            service_range=settings.slot.service_range,
            webhooks=settings.webhooks,
        )

    def _launch(self) -> None:
        assert self._settings is not None
        settings = self._settings
        self._group = group = ProcessGroup(self.workdir / "logs")
        group.start("etcd", components.etcd(settings))
        group.start("kube-apiserver", components.api_server(settings))
        wait_for(self._is_ready, what="the API server's /readyz", timeout=_START_SECONDS, check=group.check)
        if settings.controllers:
            group.start("kube-controller-manager", components.controller_manager(settings))
            group.start("kube-scheduler", components.scheduler(settings))
        if settings.kwok:
            # A restored lease names the KWOK of before; its successor would leave the node alone until it expires.
            self.api.delete("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
            group.start("kwok", components.kwok(settings))
            self._add_nodes(settings.nodes)
        if settings.controllers:
            wait_for(self._has_account, what="the default ServiceAccount", timeout=_START_SECONDS, check=group.check)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return self.api.raw("GET", "/readyz")[0] == 200
        return False

    def _has_account(self) -> bool:
        return self.api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def _add_nodes(self, count: int) -> None:
        api = self.api
        for number in range(count):
            node = components.node(f"node-{number}")
            if api.find(f"/api/v1/nodes/node-{number}") is None:
                api.create("/api/v1/nodes", node)
        for number in range(count):
            wait_for(
                lambda path=f"/api/v1/nodes/node-{number}": _is_schedulable(api.get(path)),  # type: ignore[misc]
                what=f"node-{number} becoming Ready",
                timeout=_START_SECONDS,
                check=self._started().check,
            )

    def _halt(self) -> None:
        group = self._started()
        for name in (*reversed(tuple(self._extras)), *_STOP_ORDER):
            group.stop(name, grace=_GRACE_SECONDS)
        group.close()


def _is_schedulable(node: Any) -> bool:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))
    return ready and not node["spec"].get("taints")


def _webhooks_possible() -> bool:
    """Whether this user may listen on port 443 of a service address; says so where not."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if os.geteuid() == 0 or first <= 443:
        return True
    print(
        "admission webhooks are off: without root nothing can listen on port 443 of a service address", file=sys.stderr
    )
    return False
