"""The manifests that install the operator: accepted by a real API server, and with no other rights than promised."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import tools
from testbed.controlplane import Cluster, ControlPlane

pytestmark = pytest.mark.cluster

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OPERATOR = "system:serviceaccount:clusterstack:clusterstack"
DEPLOYER = "system:serviceaccount:clusterstack:deployer"
TAINT = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}


def kubectl(cluster: Cluster, *arguments: str | Path, check: bool = True) -> str:
    command: list[str | Path] = [tools.binary("kubectl"), "--kubeconfig", cluster.kubeconfig, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60).stdout.strip()


def can(cluster: Cluster, who: str, verb: str, what: str, *more: str) -> bool:
    return kubectl(cluster, "auth", "can-i", verb, what, f"--as={who}", *more, check=False) == "yes"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose only node no ordinary pod may use yet, with the operator that needs no rights of its own."""
    with ControlPlane() as started:
        started.start(workdir=tmp_path_factory.mktemp("deploy"), webhooks=False, audit=False)
        (node,) = started.api.get("/api/v1/nodes")["items"]
        started.api.apply(
            f"/api/v1/nodes/{node['metadata']['name']}",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node["metadata"]["name"]},
                "spec": {"taints": [TAINT]},
            },
        )
        kubectl(started, "apply", "--server-side", "-k", DEPLOY / "impersonation")
        yield started


def test_the_operator_starts_on_a_node_that_nothing_else_may_use_yet(plane: Cluster) -> None:
    path = "/apis/apps/v1/namespaces/clusterstack/deployments/clusterstack"
    plane.api.wait(path, lambda found: bool(found) and found.get("status", {}).get("availableReplicas") == 1)


def test_the_operator_alone_may_read_and_act_as_others_but_change_nothing(plane: Cluster) -> None:
    everywhere = "--all-namespaces"
    assert can(plane, OPERATOR, "watch", "deployments.apps", everywhere)
    assert can(plane, OPERATOR, "impersonate", "serviceaccounts", everywhere)
    assert can(plane, OPERATOR, "patch", "clusterstacks.clusterstack.dev", "--subresource=status")
    assert can(plane, OPERATOR, "patch", "stacklayers.clusterstack.dev", "--subresource=status")
    assert can(plane, OPERATOR, "create", "stacklayers.clusterstack.dev")
    assert can(plane, OPERATOR, "create", "events", "-n", "default")
    assert can(plane, OPERATOR, "update", "leases.coordination.k8s.io", "-n", "clusterstack")
    assert can(plane, OPERATOR, "create", "secrets", "-n", "clusterstack")
    for verb, what in (("create", "secrets"), ("patch", "deployments.apps"), ("delete", "namespaces")):
        assert not can(plane, OPERATOR, verb, what, "-n", "default")
    assert not can(plane, OPERATOR, "impersonate", "users")
    assert can(plane, DEPLOYER, "delete", "namespaces")


def test_viewers_may_view_stacks_and_editors_may_not_change_them(plane: Cluster) -> None:
    kubectl(plane, "create", "clusterrolebinding", "viewer", "--clusterrole=view", "--user=viewer")
    kubectl(plane, "create", "clusterrolebinding", "editor", "--clusterrole=edit", "--user=editor")
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/view"
    plane.api.wait(role, lambda found: "clusterstack.dev" in str((found or {}).get("rules")))
    assert can(plane, "viewer", "list", "clusterstacks.clusterstack.dev")
    assert not can(plane, "editor", "create", "clusterstacks.clusterstack.dev")


def test_the_usual_installation_gives_the_operator_every_right(plane: Cluster) -> None:
    kubectl(plane, "apply", "--server-side", "-k", DEPLOY)
    assert can(plane, OPERATOR, "*", "*", "--all-namespaces")
