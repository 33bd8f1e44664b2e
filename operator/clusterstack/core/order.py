"""The order in which objects are applied and taken away.

Ranks are hints that save retries, never conditions: what is not there yet is waited for object by object.
"""

from __future__ import annotations

from types import MappingProxyType

from clusterstack.core.objects import ObjectRef

_CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
_NAMESPACE = ("", "Namespace")
_WEBHOOKS = frozenset(
    ("admissionregistration.k8s.io", kind)
    for kind in (
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    )
)

_FIRST = 20
_OTHERS = 100
_WEBHOOK_RANK = 1000

# What others name comes before what names it; everything not listed is applied after these and before the webhooks.
_KINDS = MappingProxyType(
    {
        key: _FIRST + position
        for position, key in enumerate(
            (
                ("rbac.authorization.k8s.io", "ClusterRole"),
                ("scheduling.k8s.io", "PriorityClass"),
                ("storage.k8s.io", "StorageClass"),
                ("node.k8s.io", "RuntimeClass"),
                ("networking.k8s.io", "IngressClass"),
                ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
                ("networking.k8s.io", "NetworkPolicy"),
                ("", "ResourceQuota"),
                ("", "LimitRange"),
                ("", "ServiceAccount"),
                ("rbac.authorization.k8s.io", "Role"),
                ("rbac.authorization.k8s.io", "RoleBinding"),
                ("", "ConfigMap"),
                ("", "Secret"),
                ("", "PersistentVolume"),
                ("", "PersistentVolumeClaim"),
                ("", "Service"),
                ("apps", "DaemonSet"),
                ("apps", "Deployment"),
                ("apps", "StatefulSet"),
                ("apps", "ReplicaSet"),
                ("", "ReplicationController"),
                ("", "Pod"),
                ("batch", "Job"),
                ("batch", "CronJob"),
                ("autoscaling", "HorizontalPodAutoscaler"),
                ("policy", "PodDisruptionBudget"),
                ("networking.k8s.io", "Ingress"),
                ("apiregistration.k8s.io", "APIService"),
            )
        )
    }
)

_WORKLOADS = frozenset(
    {
        ("apps", "DaemonSet"),
        ("apps", "Deployment"),
        ("apps", "StatefulSet"),
        ("apps", "ReplicaSet"),
        ("", "ReplicationController"),
        ("", "Pod"),
        ("batch", "Job"),
        ("batch", "CronJob"),
        ("autoscaling", "HorizontalPodAutoscaler"),
        ("policy", "PodDisruptionBudget"),
        ("networking.k8s.io", "Ingress"),
        ("", "Service"),
    }
)
_KUBERNETES_GROUPS = frozenset({"", "apps", "batch", "autoscaling", "policy", "extensions"}) | frozenset(
    f"{group}.k8s.io"
    for group in (
        "admissionregistration",
        "apiextensions",
        "apiregistration",
        "authentication",
        "authorization",
        "certificates",
        "coordination",
        "discovery",
        "events",
        "flowcontrol.apiserver",
        "internal.apiserver",
        "networking",
        "node",
        "rbac.authorization",
        "resource",
        "scheduling",
        "storage",
        "storagemigration",
    )
)


def apply_rank(ref: ObjectRef) -> int:
    """Where an object comes when a unit is applied: CRDs and Namespaces first, webhook configurations last.

    Between them `…Class` kinds and what others name, then workloads, then everything else.
    """
    key = (ref.group, ref.kind)
    if key == _CRD:
        return 0
    if key == _NAMESPACE:
        return 1
    if key in _WEBHOOKS:
        return _WEBHOOK_RANK
    known = _KINDS.get(key)
    if known is not None:
        return known
    return _FIRST - 1 if ref.kind.endswith("Class") else _OTHERS


def stage(ref: ObjectRef) -> int:
    """0: CRDs and Namespaces; 1: the rest; 2: webhook configurations, which may refuse what comes after them."""
    rank = apply_rank(ref)
    if rank <= 1:
        return 0
    return 2 if rank == _WEBHOOK_RANK else 1


def is_custom(ref: ObjectRef) -> bool:
    """Whether a CRD or an aggregated API serves this kind, and not Kubernetes itself."""
    return ref.group not in _KUBERNETES_GROUPS


def teardown_rank(ref: ObjectRef) -> int:
    """Where an object comes when a layer is taken down; a rank is gone before the next begins.

    0 custom resources, while their controllers still run; 1 webhook configurations and APIServices; 2 workloads;
    3 RBAC, configuration and the rest; 4 CRDs; 5 Namespaces.
    """
    key = (ref.group, ref.kind)
    if key == _CRD:
        return 4
    if key == _NAMESPACE:
        return 5
    if key in _WEBHOOKS or key == ("apiregistration.k8s.io", "APIService"):
        return 1
    if key in _WORKLOADS:
        return 2
    return 0 if is_custom(ref) else 3
