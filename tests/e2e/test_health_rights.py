"""An operator that may not read some kind: it says so, in the API server's words, and goes on where it may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.controlplane import Cluster

from .bed import NAMESPACE, Bed, Manifest, a_bed, config_map, prepare
from .conftest import a_cluster
from .objects import CRDS, crd, custom

pytestmark = pytest.mark.e2e
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ACCOUNT = "narrow"


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Bed]:
    """An operator under an account that may do everything to the kinds that are served so far."""
    with a_cluster(tmp_path / "plane") as plane:
        prepare(plane)
        groups = [group["name"] for group in plane.api.get("/apis")["groups"]]
        allow(plane, "served", ["", *groups])
        kubeconfig = tmp_path / "narrow.kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(plane)))
        with a_bed(Cluster(replace(plane.access, kubeconfig=kubeconfig)), tmp_path) as bed:
            yield bed


def allow(plane: Cluster, name: str, groups: list[str]) -> None:
    """Let the account do everything in these API groups."""
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": f"{ACCOUNT}-{name}"}}
    rules: list[Manifest] = [
        {"apiGroups": groups, "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["get"]},
    ]
    plane.api.create(f"{RBAC}/clusterroles", {**head, "kind": "ClusterRole", "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{ACCOUNT}-{name}"}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}
    binding = {**head, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]}
    plane.api.create(f"{RBAC}/clusterrolebindings", binding)


def _kubeconfig(plane: Cluster) -> dict[str, Any]:
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    plane.api.create(accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = plane.api.create(f"{accounts}/{ACCOUNT}/token", asked)["status"]["token"]
    cluster = {"server": plane.url, "certificate-authority": str(plane.ca)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": ACCOUNT,
        "clusters": [{"name": "plane", "cluster": cluster}],
        "users": [{"name": ACCOUNT, "user": {"token": token}}],
        "contexts": [{"name": ACCOUNT, "context": {"cluster": "plane", "user": ACCOUNT}}],
    }


def test_a_kind_that_may_not_be_read_is_named_with_the_refusal_and_is_read_once_it_may(narrow: Bed) -> None:
    place, group = narrow.namespace(), "rights.example.org"
    narrow.api.create(CRDS, crd("Widget", group))
    stack = narrow.stack(
        {"name": "below", "manifests": [custom("Widget", group, "w", place), config_map("beside", place)]},
        {"name": "above", "dependsOn": ["below"], "manifests": [config_map("above", place)]},
    )
    status = stack.phase("below", "Progressing", says=f"Widget {place}/w: cannot read widgets")
    (blocking,) = status["blocking"]
    assert blocking["reason"] == "Forbidden"
    assert f'User "system:serviceaccount:{NAMESPACE}:{ACCOUNT}" cannot list resource "widgets"' in blocking["message"]
    assert narrow.api.get(f"/api/v1/namespaces/{place}/configmaps/beside")
    assert narrow.api.find(f"/api/v1/namespaces/{place}/configmaps/above") is None
    allow(narrow.plane, "late", [group])
    stack.ready(timeout=60)
