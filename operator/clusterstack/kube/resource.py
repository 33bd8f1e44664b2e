"""A served kind, its address, and how much of its objects we need to see."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from clusterstack.core.objects import GroupKind

ALL_VERBS = frozenset({"create", "delete", "get", "list", "patch", "update", "watch"})


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """One kind in one version, as the API server serves it; `verbs` are those of its discovery document, `status`
    says whether it has `/status`."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str] = ALL_VERBS
    status: bool = False

    @property
    def api_version(self) -> str:
        """As manifests write it: `apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.group, self.kind)

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The request path of a collection, an object, or a subresource; cluster-scoped kinds ignore the namespace."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def __str__(self) -> str:
        """For metrics and logs: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


# Kinds that every API server has: no discovery needed.
NAMESPACE = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
SECRET = Resource("", "v1", "Secret", "secrets", namespaced=True)
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
EVENT = Resource("events.k8s.io", "v1", "Event", "events", namespaced=True)
LEASE = Resource("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True)
CUSTOM_RESOURCE_DEFINITION = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
API_SERVICE = Resource("apiregistration.k8s.io", "v1", "APIService", "apiservices", namespaced=False)

# What others wait for most: these get a request slot before anything else.
_URGENT = frozenset({NAMESPACE.group_kind, CUSTOM_RESOURCE_DEFINITION.group_kind})

# Kinds whose health is their existence, and whose content is large, secret or both.
_METADATA_ONLY = frozenset(
    {
        GroupKind("", "ConfigMap"),
        GroupKind("", "LimitRange"),
        GroupKind("", "PodTemplate"),
        GroupKind("", "Secret"),
        GroupKind("", "ServiceAccount"),
        GroupKind("networking.k8s.io", "IngressClass"),
        GroupKind("node.k8s.io", "RuntimeClass"),
        GroupKind("rbac.authorization.k8s.io", "ClusterRole"),
        GroupKind("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        GroupKind("rbac.authorization.k8s.io", "Role"),
        GroupKind("rbac.authorization.k8s.io", "RoleBinding"),
        GroupKind("scheduling.k8s.io", "PriorityClass"),
        GroupKind("storage.k8s.io", "StorageClass"),
    }
)


def is_urgent(group_kind: GroupKind) -> bool:
    """Whether requests for this kind overtake others: CRDs and Namespaces."""
    return group_kind in _URGENT


def metadata_only(group_kind: GroupKind) -> bool:
    """Whether objects of this kind are watched as PartialObjectMetadata: their content is never seen."""
    return group_kind in _METADATA_ONLY
