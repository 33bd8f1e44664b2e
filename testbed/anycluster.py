"""Clusters that are not the test bed's own: one of kind's, or whatever a kubeconfig leads to."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testbed import tools
from testbed.controlplane import Access

_ROOT = Path(__file__).resolve().parent.parent
KIND_CONFIG = _ROOT / "deploy" / "kind.yaml"
KIND_NAME = "clusterstack"
_ACCOUNT = "clusterstack-testbed"
_NAMESPACE = "kube-system"


class ClusterError(RuntimeError):
    """A cluster cannot be made or reached; the message says what to do."""


def create_kind(kubeconfig: Path) -> None:
    """Makes the cluster of deploy/kind.yaml, and `kubeconfig`, which reaches it. Needs kind and Docker."""
    _kind("create", "cluster", "--config", str(KIND_CONFIG), "--kubeconfig", str(kubeconfig))


def delete_kind() -> None:
    _kind("delete", "cluster", "--name", KIND_NAME)


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Access]:
    """A cluster of kind's for as long as the context lasts."""
    kubeconfig = folder / "kind.kubeconfig"
    folder.mkdir(parents=True, exist_ok=True)
    create_kind(kubeconfig)
    try:
        yield access(kubeconfig, folder)
    finally:
        delete_kind()


def access(kubeconfig: Path, folder: Path) -> Access:
    """Access with all rights, by the token of an account that is made for it; such a cluster has no audit log for us.

    `folder` takes the cluster's certificate authority.
    """
    view = json.loads(_kubectl(kubeconfig, "config", "view", "--raw", "--minify", "--flatten", "--output=json"))
    cluster = view["clusters"][0]["cluster"]
    ca = folder / "cluster-ca.crt"
    ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    _kubectl(kubeconfig, "apply", "--filename=-", text=json.dumps(_account()))
    token = _kubectl(kubeconfig, "create", "token", _ACCOUNT, f"--namespace={_NAMESPACE}", "--duration=24h").strip()
    return Access(
        url=cluster["server"],
        token=token,
        ca=ca,
        kubeconfig=kubeconfig,
        audit_log=Path(),
        service_range="",
        webhooks=True,
    )


def _account() -> dict[str, object]:
    account = {"name": _ACCOUNT, "namespace": _NAMESPACE}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }
    items = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}, binding]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _kubectl(kubeconfig: Path, *arguments: str, text: str | None = None) -> str:
    command = [str(tools.binary("kubectl")), "--kubeconfig", str(kubeconfig), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"kubectl {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


def _kind(*arguments: str) -> None:
    if shutil.which("kind") is None:
        raise ClusterError("CLUSTER=kind needs kind and Docker: https://kind.sigs.k8s.io; everything runs without, too")
    done = subprocess.run(["kind", *arguments], check=False)
    if done.returncode:
        raise ClusterError(f"kind {arguments[0]} {arguments[1]} failed with code {done.returncode}")
