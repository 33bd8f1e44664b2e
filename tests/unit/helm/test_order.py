"""Kinds in Helm's orders, and objects in ours."""

from __future__ import annotations

from clusterstack.core.objects import ObjectRef
from clusterstack.core.order import apply_rank, stage, teardown_rank
from clusterstack.helm.order import INSTALL_ORDER, UNINSTALL_ORDER, sort_install, sort_uninstall


def test_both_orders_name_the_same_kinds() -> None:
    assert set(INSTALL_ORDER) == set(UNINSTALL_ORDER)


def test_unknown_kinds_come_last_by_name_and_equal_kinds_keep_their_order() -> None:
    kinds = ["Zebra", "Service", "Apple", "Namespace", "Service"]
    manifests = [{"kind": kind, "n": n} for n, kind in enumerate(kinds)]
    assert [m["n"] for m in sort_install(manifests)] == [3, 1, 4, 2, 0]
    assert [m["kind"] for m in sort_uninstall(manifests)] == ["Service", "Service", "Namespace", "Apple", "Zebra"]


def test_objects_are_applied_before_what_names_them() -> None:
    refs = [
        ObjectRef("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "", "w"),
        ObjectRef("cert-manager.io", "Issuer", "a", "i"),
        ObjectRef("apps", "Deployment", "a", "d"),
        ObjectRef("", "Secret", "a", "s"),
        ObjectRef("", "ServiceAccount", "a", "sa"),
        ObjectRef("gateway.networking.k8s.io", "GatewayClass", "", "g"),
        ObjectRef("", "Namespace", "", "a"),
        ObjectRef("apiextensions.k8s.io", "CustomResourceDefinition", "", "c"),
    ]
    assert sorted(refs, key=apply_rank) == refs[::-1]
    assert [stage(ref) for ref in refs] == [2, 1, 1, 1, 1, 1, 0, 0]


def test_teardown_takes_custom_resources_first_and_namespaces_last() -> None:
    refs = [
        ObjectRef("cert-manager.io", "Issuer", "a", "i"),
        ObjectRef("apiregistration.k8s.io", "APIService", "", "v1.x"),
        ObjectRef("apps", "Deployment", "a", "d"),
        ObjectRef("rbac.authorization.k8s.io", "ClusterRole", "", "r"),
        ObjectRef("apiextensions.k8s.io", "CustomResourceDefinition", "", "c"),
        ObjectRef("", "Namespace", "", "a"),
    ]
    assert [teardown_rank(ref) for ref in refs] == [0, 1, 2, 3, 4, 5]
    assert teardown_rank(ObjectRef("gateway.networking.k8s.io", "HTTPRoute", "a", "r")) == 0
