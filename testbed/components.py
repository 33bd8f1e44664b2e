"""The command lines and files of a control plane's programs; decides nothing and starts nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import audit
from testbed.pki import Pki
from testbed.slots import Slot

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
# Each program is its own user, so that the audit log can tell them apart; all are masters, to keep RBAC out of the way.
USERS: Mapping[str, str] = {
    "admin": "admin",
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kwok": "system:kwok",
    "simulator": "system:simulator",
}
_WEBHOOK_PLUGINS = "ValidatingAdmissionWebhook,MutatingAdmissionWebhook"
Command = list[str | Path]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the command lines depend on."""

    binaries: Mapping[str, Path]
    workdir: Path
    slot: Slot
    pki: Pki
    tokens: Mapping[str, str]
    webhooks: bool
    controllers: bool
    kwok: bool
    audit: bool
    nodes: int
    api_server_flags: tuple[str, ...]
    kwok_config: Path | None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.slot.ports.api}"

    @property
    def etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.slot.ports.etcd}"

    @property
    def audit_log(self) -> Path:
        return self.workdir / "audit.jsonl"

    def kubeconfig(self, user: str) -> Path:
        return self.workdir / f"{user}.kubeconfig"


def hosts(slot: Slot) -> tuple[str, ...]:
    """The names and addresses that the API server's certificate is for."""
    service = "kubernetes.default"
    names = ("kubernetes", service, f"{service}.svc", f"{service}.svc.cluster.local")
    return ("localhost", "127.0.0.1", slot.first_service_ip, *names)


def write_files(settings: Settings) -> None:
    """Tokens, kubeconfigs and the audit policy."""
    rows = [f'{settings.tokens[user]},{name},{user},"system:masters"' for user, name in USERS.items()]
    tokens = settings.workdir / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text("\n".join(rows) + "\n")
    for user in USERS:
        path = settings.kubeconfig(user)
        path.touch(mode=0o600)
        path.write_text(json.dumps(_kubeconfig(settings, user), indent=1))
    (settings.workdir / "audit-policy.json").write_text(json.dumps(audit.POLICY))


def _kubeconfig(settings: Settings, user: str) -> dict[str, Any]:
    cluster = {"server": settings.url, "certificate-authority": str(settings.pki.ca)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": settings.tokens[user]}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
    }


def etcd(settings: Settings) -> Command:
    peer = f"http://127.0.0.1:{settings.slot.ports.etcd_peer}"
    return [
        settings.binaries["etcd"],
        "--name=testbed",
        f"--data-dir={settings.workdir / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={settings.etcd_url}",
        f"--advertise-client-urls={settings.etcd_url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=testbed={peer}",
        "--quota-backend-bytes=8589934592",
        "--log-level=warn",
    ]


def api_server(settings: Settings) -> Command:
    command: Command = [
        settings.binaries["kube-apiserver"],
        f"--etcd-servers={settings.etcd_url}",
        "--bind-address=127.0.0.1",
        "--external-hostname=127.0.0.1",
        f"--secure-port={settings.slot.ports.api}",
        f"--service-cluster-ip-range={settings.slot.service_range}",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
        # The address of `default/kubernetes` is on loopback, which the reconciler refuses.
        "--endpoint-reconciler-type=none",
        "--profiling=false",
        "--shutdown-delay-duration=0s",
        *_api_server_certificates(settings),
    ]
    if not settings.webhooks:
        command.append(f"--disable-admission-plugins={_WEBHOOK_PLUGINS}")
    if settings.audit:
        command += [
            f"--audit-policy-file={settings.workdir / 'audit-policy.json'}",
            f"--audit-log-path={settings.audit_log}",
            "--audit-log-maxsize=100000",  # MB: offsets into the log must stay true, so it never rotates
        ]
    return [*command, *settings.api_server_flags]


def _api_server_certificates(settings: Settings) -> Command:
    files = settings.pki
    return [
        f"--tls-cert-file={files.server}",
        f"--tls-private-key-file={files.server_key}",
        f"--client-ca-file={files.ca}",
        f"--token-auth-file={settings.workdir / 'tokens.csv'}",
        f"--service-account-key-file={files.service_account_key}",
        f"--service-account-signing-key-file={files.service_account_key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        # The aggregation layer reaches an extension's API server on its service address, where the simulator listens.
        f"--requestheader-client-ca-file={files.front_ca}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={files.front}",
        f"--proxy-client-key-file={files.front_key}",
        "--enable-aggregator-routing=false",
    ]


def controller_manager(settings: Settings) -> Command:
    return [
        settings.binaries["kube-controller-manager"],
        *_component(settings, "kube-controller-manager"),
        # Node life cycle must be on, or a new node keeps its not-ready taint; node addresses need a real network.
        "--controllers=*,-nodeipam",
        f"--service-account-private-key-file={settings.pki.service_account_key}",
        f"--root-ca-file={settings.pki.ca}",
        f"--cluster-signing-cert-file={settings.pki.ca}",
        f"--cluster-signing-key-file={settings.pki.ca_key}",
        f"--service-cluster-ip-range={settings.slot.service_range}",
        # Binds claims of StorageClasses whose provisioner is kubernetes.io/host-path.
        "--enable-hostpath-provisioner=true",
    ]


def scheduler(settings: Settings) -> Command:
    return [settings.binaries["kube-scheduler"], *_component(settings, "kube-scheduler")]


def _component(settings: Settings, user: str) -> Command:
    return [
        f"--kubeconfig={settings.kubeconfig(user)}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def kwok(settings: Settings) -> Command:
    command: Command = [
        settings.binaries["kwok"],
        f"--kubeconfig={settings.kubeconfig('kwok')}",
        "--manage-all-nodes=true",
        # Without leases nodes go NotReady after 50 s, and every pod with them.
        "--node-lease-duration-seconds=40",
        f"--server-address=127.0.0.1:{settings.slot.ports.kwok}",
    ]
    if settings.kwok_config is not None:
        command.append(f"--config={settings.kwok_config}")
    return command


def node(name: str) -> dict[str, Any]:
    """A big amd64 Linux node for KWOK to play the kubelet of."""
    capacity = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "2000"}
    system = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {**system, "kubernetes.io/hostname": name, "node-role.kubernetes.io/worker": "", "type": "kwok"},
        },
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux"},
        },
    }
