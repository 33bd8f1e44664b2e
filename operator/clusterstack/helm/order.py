"""Helm's order of kinds, for installing and for uninstalling (helm.sh/helm/v4/pkg/release/v1/util)."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from clusterstack.core.objects import Manifest

INSTALL_ORDER = (
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)

# Not quite the reverse: webhook configurations and APIServices go first, so that they block nothing, and Services go
# before the workloads behind them.
UNINSTALL_ORDER = (
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "APIService",
    "Ingress",
    "IngressClass",
    "Service",
    "CronJob",
    "Job",
    "StatefulSet",
    "HorizontalPodAutoscaler",
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "Pod",
    "DaemonSet",
    "RoleBindingList",
    "RoleBinding",
    "RoleList",
    "Role",
    "ClusterRoleBindingList",
    "ClusterRoleBinding",
    "ClusterRoleList",
    "ClusterRole",
    "CustomResourceDefinition",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StorageClass",
    "ConfigMap",
    "SecretList",
    "Secret",
    "ServiceAccount",
    "PodDisruptionBudget",
    "PodSecurityPolicy",
    "LimitRange",
    "ResourceQuota",
    "NetworkPolicy",
    "Namespace",
    "PriorityClass",
)

_INSTALL = MappingProxyType({kind: rank for rank, kind in enumerate(INSTALL_ORDER)})
_UNINSTALL = MappingProxyType({kind: rank for rank, kind in enumerate(UNINSTALL_ORDER)})


def install_rank(kind: str) -> tuple[int, str]:
    """The sort key of a kind when installing: unknown kinds come last, by name; equal kinds keep their order."""
    rank = _INSTALL.get(kind)
    return (len(INSTALL_ORDER), kind) if rank is None else (rank, "")


def uninstall_rank(kind: str) -> tuple[int, str]:
    """The sort key of a kind when uninstalling: unknown kinds come last, by name."""
    rank = _UNINSTALL.get(kind)
    return (len(UNINSTALL_ORDER), kind) if rank is None else (rank, "")


def sort_install(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Manifests in Helm's order of installation."""
    return sorted(manifests, key=lambda manifest: install_rank(manifest.get("kind", "")))


def sort_uninstall(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Manifests in Helm's order of removal."""
    return sorted(manifests, key=lambda manifest: uninstall_rank(manifest.get("kind", "")))
