"""kstatus, as Flux and Helm 4 judge: an exact port of its semantics (fluxcd/cli-utils `pkg/kstatus/status`).

Pure functions of one object, kind by kind, with the generic algorithm around them. Where kstatus reports an error the
verdict is Unknown. Wording is ours; reasons are those of kstatus.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from clusterstack.core.health.fields import condition, conditions, entries, integer, is_true, section, text, timestamp
from clusterstack.core.health.verdict import State, Verdict
from clusterstack.core.objects import Manifest, group_of

RULE = "kstatus"
SCHEDULE_WINDOW = 15.0
"""Seconds a new Pod may stay unscheduled before kstatus calls it Failed."""

NO_DEADLINE = 2**31 - 1


class Check(Protocol):
    """One kind's rule; `now` is unix seconds."""

    def __call__(self, obj: Manifest, now: float) -> Verdict: ...


def verdict(state: State, reason: str, message: str, recheck_at: float | None = None) -> Verdict:
    return Verdict(state, reason, message, RULE, recheck_at)


def current(message: str = "") -> Verdict:
    return verdict(State.CURRENT, "Current", message)


def waiting(reason: str, message: str) -> Verdict:
    return verdict(State.IN_PROGRESS, reason, message)


def compute(obj: Manifest, *, now: float) -> Verdict:
    """Judge one object as `status.Compute` does."""
    settled = preliminary(obj)
    if settled is not None:
        return settled
    check = CHECKS.get((group_of(obj["apiVersion"]), obj["kind"]))
    return check(obj, now) if check else generic(obj)


def preliminary(obj: Manifest) -> Verdict | None:
    """What precedes any kind's own rule: deletion, an unobserved generation, and the standard abnormal conditions."""
    if section(obj, "metadata").get("deletionTimestamp"):
        return verdict(State.TERMINATING, "Terminating", "is being deleted")
    observed = section(obj, "status").get("observedGeneration")
    if observed is not None and (isinstance(observed, bool) or not isinstance(observed, int)):
        return verdict(State.UNKNOWN, "MalformedStatus", "status.observedGeneration is not an integer")
    stale = unobserved(obj)
    if stale is not None:
        return stale
    for entry in conditions(obj):
        if entry.get("status") != "True":
            continue
        if entry.get("type") == "Reconciling":
            return waiting(text(entry, "reason") or "Reconciling", text(entry, "message") or "is reconciling")
        if entry.get("type") == "Stalled":
            reason, message = text(entry, "reason") or "Stalled", text(entry, "message") or "is stalled"
            return verdict(State.FAILED, reason, message)
    return None


def unobserved(obj: Manifest) -> Verdict | None:
    """InProgress while the controller has seen another generation than the object's; None where either is unknown."""
    observed = integer(section(obj, "status"), "observedGeneration", NO_DEADLINE)
    generation = integer(section(obj, "metadata"), "generation", NO_DEADLINE)
    if NO_DEADLINE in (observed, generation) or observed == generation:
        return None
    return waiting(
        "LatestGenerationNotObserved", f"generation {generation} is not observed yet (last seen: {max(observed, 0)})"
    )


def generic(obj: Manifest) -> Verdict:
    """Kinds without a rule: the condition Ready, if there is one."""
    ready = condition(obj, "Ready")
    match ready.get("status") if ready else None:
        case "False" | "Unknown" as status:
            assert ready is not None
            return waiting(text(ready, "reason") or "NotReady", text(ready, "message") or f"Ready is {status}")
        case _:
            return current()


def always(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """Kinds that are ready once stored."""
    return current()


def deployment(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """A rollout is complete and available; only a missed progress deadline is final."""
    spec, status = section(obj, "spec"), section(obj, "status")
    progressing = condition(obj, "Progressing") or {}
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return verdict(
            State.FAILED, "ProgressDeadlineExceeded", text(progressing, "message") or "progress deadline exceeded"
        )
    wanted, replicas = integer(spec, "replicas", 1), integer(status, "replicas", 0)
    updated, available = integer(status, "updatedReplicas", 0), integer(status, "availableReplicas", 0)
    ready = integer(status, "readyReplicas", 0)
    if wanted > replicas:
        return waiting("LessReplicas", f"{replicas}/{wanted} created")
    if wanted > updated:
        return waiting("LessUpdated", f"{updated}/{wanted} updated")
    if replicas > wanted:
        return waiting("ExtraPods", f"{replicas - wanted} old replicas to terminate")
    if updated > available:
        return waiting("LessAvailable", f"{available}/{updated} available")
    if wanted > ready:
        return waiting("LessReady", f"{ready}/{wanted} ready")
    rolled_out = progressing.get("status") == "True" and progressing.get("reason") == "NewReplicaSetAvailable"
    if not rolled_out and integer(spec, "progressDeadlineSeconds", NO_DEADLINE) != NO_DEADLINE:
        return waiting("ReplicaSetNotAvailable", "new ReplicaSet is not available yet")
    if not is_true(obj, "Available"):
        return waiting("DeploymentNotAvailable", "is not available yet")
    return current()


def stateful_set(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """All replicas ready at the new revision, or at the rolling update's partition; OnDelete is not awaited."""
    spec, status = section(obj, "spec"), section(obj, "status")
    strategy = section(spec, "updateStrategy")
    if strategy.get("type") == "OnDelete":
        return current()
    wanted, replicas = integer(spec, "replicas", 1), integer(status, "replicas", 0)
    updated, ready = integer(status, "updatedReplicas", 0), integer(status, "readyReplicas", 0)
    if wanted > replicas:
        return waiting("LessReplicas", f"{replicas}/{wanted} created")
    if wanted > ready:
        return waiting("LessReady", f"{ready}/{wanted} ready")
    if replicas > wanted:
        return waiting("ExtraPods", f"{replicas - wanted} replicas to terminate")
    partition = integer(section(strategy, "rollingUpdate"), "partition", -1)
    if partition != -1:
        if updated < wanted - partition:
            return waiting("PartitionRollout", f"{updated}/{wanted - partition} updated")
        return current()
    if wanted > integer(status, "currentReplicas", 0):
        return waiting("LessCurrent", f"{integer(status, 'currentReplicas', 0)}/{wanted} current")
    if text(status, "currentRevision") != text(status, "updateRevision"):
        return waiting("RevisionMismatch", "new revision is not rolled out yet")
    return current()


def daemon_set(obj: Manifest, now: float, *, on_delete: bool = False) -> Verdict:  # noqa: ARG001
    """A ready Pod on every node meant to have one; `on_delete`: Pods of the old revision are nobody's business."""
    status = section(obj, "status")
    if "generation" not in section(obj, "metadata") or "observedGeneration" not in status:
        return waiting("NoObservedGeneration", "is not seen by its controller yet")
    wanted = integer(status, "desiredNumberScheduled", -1)
    if wanted == -1:
        return waiting("NoDesiredNumber", "number of nodes is not known yet")
    counters = (
        ("currentNumberScheduled", "LessCurrent", "scheduled"),
        ("updatedNumberScheduled", "LessUpdated", "updated"),
        ("numberAvailable", "LessAvailable", "available"),
        ("numberReady", "LessReady", "ready"),
    )
    for counter, reason, word in counters:
        if on_delete and counter == "updatedNumberScheduled":
            continue
        if wanted > integer(status, counter, 0):
            return waiting(reason, f"{integer(status, counter, 0)}/{wanted} {word}")
    return current()


def replica_set(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """All replicas labelled, available and ready."""
    status = section(obj, "status")
    failure = condition(obj, "ReplicaFailure")
    if failure and failure.get("status") == "True":
        return waiting("ReplicaFailure", text(failure, "message") or "cannot create its Pods")
    wanted = integer(section(obj, "spec"), "replicas", 1)
    counters = (
        ("fullyLabeledReplicas", "LessLabelled", "labelled"),
        ("availableReplicas", "LessAvailable", "available"),
        ("readyReplicas", "LessReady", "ready"),
    )
    for counter, reason, word in counters:
        if wanted > integer(status, counter, 0):
            return waiting(reason, f"{integer(status, counter, 0)}/{wanted} {word}")
    extra = integer(status, "replicas", 0) - wanted
    return waiting("ExtraPods", f"{extra} replicas to terminate") if extra > 0 else current()


def pod(obj: Manifest, now: float) -> Verdict:
    """A finished Pod is Current, however it ended; a crash loop or nowhere to run is final."""
    status = section(obj, "status")
    match status.get("phase"):
        case "Succeeded" | "Failed":
            return current()
        case "Running":
            if is_true(obj, "Ready"):
                return current()
            looping = crash_looping(obj)
            if looping:
                return verdict(State.FAILED, "ContainerCrashLooping", f"crash loop in {', '.join(looping)}")
            return waiting("PodRunningNotReady", "is running but not ready")
        case "Pending":
            return _pending_pod(obj, now)
        case phase:
            return verdict(State.UNKNOWN, "UnknownPhase", f"unknown phase {phase!r}")


def _pending_pod(obj: Manifest, now: float) -> Verdict:
    scheduled = condition(obj, "PodScheduled")
    if not scheduled or scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return waiting("PodPending", "is pending")
    created = timestamp(section(obj, "metadata").get("creationTimestamp")) or 0.0
    message = text(scheduled, "message") or "cannot be scheduled"
    if now - SCHEDULE_WINDOW < created:
        return verdict(State.IN_PROGRESS, "PodNotScheduled", message, created + SCHEDULE_WINDOW)
    return verdict(State.FAILED, "PodUnschedulable", message)


def crash_looping(obj: Manifest) -> list[str]:
    """Names of the Pod's containers that wait in CrashLoopBackOff."""
    status = section(obj, "status")
    return [
        text(container, "name")
        for container in entries(status, "containerStatuses")
        if section(section(container, "state"), "waiting").get("reason") == "CrashLoopBackOff"
    ]


def job(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """Complete, failed, or started, which kstatus takes for Current."""
    failure = _finished(obj)
    if failure is not None:
        return failure
    if "startTime" not in section(obj, "status"):
        return waiting("JobNotStarted", "is not started yet")
    return current()


def flux_job(obj: Manifest) -> Verdict:
    """A Job as Flux overrides kstatus: it has to complete, unless it is suspended."""
    if section(obj, "spec").get("suspend") is True:
        return current()
    return _finished(obj) or waiting("JobInProgress", "is running")


def _finished(obj: Manifest) -> Verdict | None:
    for entry in conditions(obj):
        if entry.get("status") != "True":
            continue
        if entry.get("type") == "Complete":
            return current()
        if entry.get("type") == "Failed":
            return verdict(State.FAILED, text(entry, "reason") or "JobFailed", text(entry, "message") or "has failed")
    return None


def claim(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """A PersistentVolumeClaim is Current when bound."""
    phase = text(section(obj, "status"), "phase") or "unknown"
    return current() if phase == "Bound" else waiting("NotBound", f"is not bound (phase {phase})")


def service(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """A Service is Current, except a load balancer without a cluster address."""
    spec = section(obj, "spec")
    if spec.get("type") == "LoadBalancer" and not spec.get("clusterIP"):
        return waiting("NoIPAssigned", "has no cluster IP yet")
    return current()


def definition(obj: Manifest, now: float) -> Verdict:  # noqa: ARG001
    """A CustomResourceDefinition is Current when established, Failed when its names are taken."""
    for entry in conditions(obj):
        kind, status, reason = entry.get("type"), entry.get("status"), text(entry, "reason")
        if kind == "NamesAccepted" and status == "False":
            return verdict(
                State.FAILED, reason or "NamesNotAccepted", text(entry, "message") or "names are not accepted"
            )
        if kind == "Established" and status == "False" and reason != "Installing":
            return verdict(State.FAILED, reason or "NotEstablished", text(entry, "message") or "is not established")
        if kind == "Established" and status == "True":
            return current()
    return waiting("Installing", "is not established yet")


CHECKS: Mapping[tuple[str, str], Check] = MappingProxyType(
    {
        ("", "ConfigMap"): always,
        ("", "Secret"): always,
        ("batch", "CronJob"): always,
        ("policy", "PodDisruptionBudget"): always,
        ("apps", "Deployment"): deployment,
        ("extensions", "Deployment"): deployment,
        ("apps", "StatefulSet"): stateful_set,
        ("apps", "DaemonSet"): daemon_set,
        ("extensions", "DaemonSet"): daemon_set,
        ("apps", "ReplicaSet"): replica_set,
        ("extensions", "ReplicaSet"): replica_set,
        ("", "Pod"): pod,
        ("batch", "Job"): job,
        ("", "PersistentVolumeClaim"): claim,
        ("", "Service"): service,
        ("apiextensions.k8s.io", "CustomResourceDefinition"): definition,
    }
)
"""The rules by group and kind: plain pairs, since they are looked up for every verdict."""
