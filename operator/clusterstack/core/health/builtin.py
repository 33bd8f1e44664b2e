"""Strict rules for Kubernetes' own kinds where kstatus is wrong or too weak; the rest of them is in `library/`.

Each function gets the live object and the context, and is called after deletion and generation have been dealt with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from clusterstack.core.health import hooks, kstatus, pods
from clusterstack.core.health.fields import condition, integer, is_true, section, text
from clusterstack.core.health.verdict import ChildQuery, Context, Policy, State, Verdict
from clusterstack.core.objects import JOB, GroupKind, Manifest, ObjectRef, group_of

RULE = "builtin"

CLAIM = GroupKind("", "PersistentVolumeClaim")
POD = GroupKind("", "Pod")
WORKLOADS = frozenset(
    {
        GroupKind("apps", "Deployment"),
        GroupKind("apps", "StatefulSet"),
        GroupKind("apps", "DaemonSet"),
        GroupKind("apps", "ReplicaSet"),
        JOB,
    }
)
"""Kinds that select Pods, whose troubles are theirs."""

NAMESPACE = GroupKind("", "Namespace")
REMAINING = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
    "NamespaceFinalizersRemaining",
    "NamespaceContentRemaining",
)
"""Conditions that tell what keeps a Namespace from going, the most telling first."""

SELECTED_NODE = "volume.kubernetes.io/selected-node"

Check = Callable[[Manifest, Context], Verdict]


def check(obj: Manifest, context: Context) -> Verdict | None:
    """The strict verdict on one of Kubernetes' own kinds; None for any other kind."""
    kind = (group_of(obj["apiVersion"]), obj["kind"])
    strict = CHECKS.get(kind)
    if strict is not None:
        return strict(obj, context)
    plain = kstatus.CHECKS.get(kind)
    return plain(obj, context.now) if plain else None


def deployment(obj: Manifest, context: Context) -> Verdict:
    """As kstatus, but a pause is a decision, and a refused replica shows."""
    if section(obj, "spec").get("paused") is True:
        return Verdict(State.SUSPENDED, "DeploymentPaused", "rollout is paused", RULE)
    verdict = kstatus.deployment(obj, context.now)
    return _refused(obj, verdict) if verdict.state is State.IN_PROGRESS else verdict


def replica_set(obj: Manifest, context: Context) -> Verdict:
    """As kstatus, but a refused replica shows."""
    verdict = kstatus.replica_set(obj, context.now)
    return _refused(obj, verdict) if verdict.state is State.IN_PROGRESS else verdict


def _refused(obj: Manifest, verdict: Verdict) -> Verdict:
    if not is_true(obj, "ReplicaFailure"):
        return verdict
    failure = condition(obj, "ReplicaFailure") or {}
    message = text(failure, "message") or "Pods are refused"
    return Verdict(State.DEGRADED, text(failure, "reason") or "ReplicaFailure", message, RULE)


def stateful_set(obj: Manifest, context: Context) -> Verdict:
    """As kstatus, but with OnDelete the replicas must at least be ready."""
    spec = section(obj, "spec")
    if section(spec, "updateStrategy").get("type") == "OnDelete":
        wanted, ready = integer(spec, "replicas", 1), integer(section(obj, "status"), "readyReplicas", 0)
        return kstatus.waiting("LessReady", f"{ready}/{wanted} ready") if wanted > ready else kstatus.current()
    return kstatus.stateful_set(obj, context.now)


def daemon_set(obj: Manifest, context: Context) -> Verdict:
    """As kstatus, but with OnDelete nobody waits for the update."""
    strategy = section(section(obj, "spec"), "updateStrategy")
    return kstatus.daemon_set(obj, context.now, on_delete=strategy.get("type") == "OnDelete")


def pod(obj: Manifest, context: Context) -> Verdict:
    """A failed Pod that nobody owns has failed; crash loops and missing nodes are retried, hence degraded."""
    status = section(obj, "status")
    if status.get("phase") == "Failed":
        if section(obj, "metadata").get("ownerReferences"):
            return kstatus.current()
        reason, message = text(status, "reason") or "PodFailed", text(status, "message") or "has failed"
        return Verdict(State.FAILED, reason, message, RULE)
    verdict = kstatus.pod(obj, context.now)
    if verdict.state is State.CURRENT:
        return verdict
    found = pods.trouble(obj, context.now)
    if found is None:
        return verdict
    state = State.DEGRADED if found.broken else State.IN_PROGRESS
    return Verdict(state, found.reason, found.message, RULE, found.recheck_at)


def definition(obj: Manifest, context: Context) -> Verdict:
    """As kstatus; a schema that the API server cannot use is degraded."""
    broken = condition(obj, "NonStructuralSchema")
    if broken and broken.get("status") == "True":
        message = text(broken, "message") or "schema is not structural"
        return Verdict(State.DEGRADED, text(broken, "reason") or "NonStructuralSchema", message, RULE)
    return kstatus.definition(obj, context.now)


def helm_repository(obj: Manifest, context: Context) -> Verdict:  # noqa: ARG001
    """An OCI repository never gets a status from Flux."""
    return kstatus.current() if section(obj, "spec").get("type") == "oci" else kstatus.generic(obj)


def remaining(obj: Manifest) -> str:
    """What keeps a Namespace that is being deleted; empty for any other object, or when it does not tell."""
    if GroupKind(group_of(obj["apiVersion"]), obj["kind"]) != NAMESPACE:
        return ""
    return next((text(condition(obj, kind) or {}, "message") for kind in REMAINING if is_true(obj, kind)), "")


def storage_class_of(claim: Manifest) -> ObjectRef | None:
    """The StorageClass that tells whether a pending claim waits for a Pod; None when that does not matter."""
    name = text(section(claim, "spec"), "storageClassName")
    if not name or section(claim, "status").get("phase") != "Pending" or _has_node(claim):
        return None
    return ObjectRef("storage.k8s.io", "StorageClass", "", name)


def awaits_consumer(claim: Manifest, context: Context) -> bool:
    """Whether a pending claim is bound only once a Pod uses it, and none does."""
    ref = storage_class_of(claim)
    storage_class = context.related.get(ref) if ref else None
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def _has_node(claim: Manifest) -> bool:
    return SELECTED_NODE in section(section(claim, "metadata"), "annotations")


def pods_of(obj: Manifest) -> ChildQuery | None:
    """The query for a workload's Pods; None for other kinds."""
    if GroupKind(group_of(obj["apiVersion"]), obj["kind"]) not in WORKLOADS:
        return None
    selector = selector_text(section(section(obj, "spec"), "selector"))
    return ChildQuery((POD,), text(section(obj, "metadata"), "namespace"), selector) if selector else None


def selector_text(selector: Mapping[str, object]) -> str:
    """A LabelSelector in the form of a list request's `labelSelector`."""
    labels = section(selector, "matchLabels")
    terms = [f"{key}={value}" for key, value in sorted(labels.items())]
    expressions = selector.get("matchExpressions")
    for expression in expressions if isinstance(expressions, list) else ():
        key, values = expression.get("key", ""), ",".join(expression.get("values") or ())
        match expression.get("operator"):
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(key)
            case "DoesNotExist":
                terms.append(f"!{key}")
    return ",".join(terms)


def with_pods(obj: Manifest, verdict: Verdict, context: Context) -> Verdict:
    """Say what keeps a workload's Pods from running, where that is known.

    A crash loop alone is degraded, not failed: the Pod may well wait for something. It is final past the workload's own
    progress deadline or, for kinds without one, after ten restarts (a Job counts by itself).
    """
    if verdict.state not in (State.IN_PROGRESS, State.FAILED, State.DEGRADED):
        return verdict
    found = pods.worst(context.children, context.now) if context.children else None
    if verdict.state is State.FAILED and GroupKind(group_of(obj["apiVersion"]), obj["kind"]) == JOB:
        return replace(verdict, message=f"{verdict.reason}: {found.message if found else verdict.message}")
    if found is None:
        return verdict
    detail = found.reason if not found.message else f"{found.reason}: {found.message}"
    state = verdict.state
    if state is State.IN_PROGRESS and found.broken:
        hopeless = found.restarts >= pods.RESTARTS and obj["kind"] in ("StatefulSet", "DaemonSet")
        state = State.FAILED if hopeless and context.policy is not Policy.KSTATUS else State.DEGRADED
    return Verdict(
        state, found.reason, f"{verdict.message}: {detail}", verdict.rule, found.recheck_at or verdict.recheck_at
    )


CHECKS: Mapping[tuple[str, str], Check] = MappingProxyType(
    {
        ("apps", "Deployment"): deployment,
        ("apps", "StatefulSet"): stateful_set,
        ("apps", "DaemonSet"): daemon_set,
        ("apps", "ReplicaSet"): replica_set,
        ("", "Pod"): pod,
        ("apiextensions.k8s.io", "CustomResourceDefinition"): definition,
        **{(kind.group, kind.kind): hooks.check for kind in hooks.KINDS},
        ("source.toolkit.fluxcd.io", "HelmRepository"): helm_repository,
    }
)
