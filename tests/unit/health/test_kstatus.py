"""kstatus, row by row: what it says of each built-in kind, and the generic algorithm around the kinds."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.health import State, kstatus

NOW = 1_700_000_000.0
FRESH, OLD = "2023-11-14T22:13:15Z", "2023-11-14T22:00:00Z"  # 5 s and 13 min before NOW

C, P, F, T, U = State.CURRENT, State.IN_PROGRESS, State.FAILED, State.TERMINATING, State.UNKNOWN


def obj(kind: str, *, spec: Any = None, status: Any = None, **metadata: Any) -> dict[str, Any]:
    group, _, name = kind.rpartition("/")
    made: dict[str, Any] = {"apiVersion": f"{group}/v1" if group else "v1", "kind": name}
    made["metadata"] = {"name": "x", "namespace": "ns", **metadata}
    if spec is not None:
        made["spec"] = spec
    if status is not None:
        made["status"] = status
    return made


def cond(kind: str, status: str = "True", reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def state(made: dict[str, Any]) -> State:
    return kstatus.compute(made, now=NOW).state


DONE = [cond("Progressing", reason="NewReplicaSetAvailable"), cond("Available")]
FULL = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3, "conditions": DONE}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (obj("example.com/Foo"), C),
        (obj("example.com/Foo", deletionTimestamp=OLD, status={"conditions": [cond("Stalled")]}), T),
        (obj("example.com/Foo", generation=2, status={"observedGeneration": 1}), P),
        (obj("example.com/Foo", generation=2, status={"observedGeneration": 3}), P),
        (obj("example.com/Foo", generation=2, status={"observedGeneration": 2}), C),
        (obj("example.com/Foo", status={"observedGeneration": 1}), C),
        (obj("example.com/Foo", generation=2, status={}), C),
        (obj("example.com/Foo", generation=2, status={"observedGeneration": "2"}), U),
        (obj("example.com/Foo", status={"conditions": [cond("Reconciling"), cond("Stalled")]}), P),
        (obj("example.com/Foo", status={"conditions": [cond("Stalled"), cond("Reconciling")]}), F),
        (obj("example.com/Foo", status={"conditions": [cond("Stalled", "False"), cond("Reconciling", "False")]}), C),
        (obj("example.com/Foo", status={"conditions": [cond("Ready")]}), C),
        (obj("example.com/Foo", status={"conditions": [cond("Ready", "False")]}), P),
        (obj("example.com/Foo", status={"conditions": [cond("Ready", "Unknown")]}), P),
        (obj("example.com/Foo", status={"conditions": [cond("Available", "False")]}), C),
        (obj("apps/Deployment", generation=2, status={**FULL, "observedGeneration": 1}), P),
    ],
)
def test_the_generic_algorithm(made: dict[str, Any], expected: State) -> None:
    assert state(made) is expected


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret", "batch/CronJob", "policy/PodDisruptionBudget"])
def test_kinds_that_are_always_current(kind: str) -> None:
    assert state(obj(kind, status={"conditions": [cond("Ready", "False")]})) is C


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"replicas": 3, "progressDeadlineSeconds": 600}, FULL, C),
        ({"replicas": 3}, {**FULL, "conditions": [cond("Progressing", "False", "ProgressDeadlineExceeded")]}, F),
        ({"replicas": 3}, {**FULL, "replicas": 2}, P),
        ({"replicas": 3}, {**FULL, "updatedReplicas": 2}, P),
        ({"replicas": 3}, {**FULL, "replicas": 4}, P),
        ({"replicas": 3}, {**FULL, "availableReplicas": 2}, P),
        ({"replicas": 3}, {**FULL, "readyReplicas": 2}, P),
        ({"replicas": 3, "progressDeadlineSeconds": 600}, {**FULL, "conditions": [cond("Available")]}, P),
        ({"replicas": 3}, {**FULL, "conditions": [cond("Available")]}, C),
        ({"replicas": 3, "progressDeadlineSeconds": 2147483647}, {**FULL, "conditions": [cond("Available")]}, C),
        ({"replicas": 3}, {**FULL, "conditions": [cond("Available", "False")]}, P),
        ({}, {"conditions": DONE}, P),
        ({"replicas": 0}, {"conditions": DONE}, C),
        ({"replicas": 0}, {}, P),
    ],
)
def test_deployments(spec: Any, status: Any, expected: State) -> None:
    assert state(obj("apps/Deployment", spec=spec, status=status)) is expected


STS = {"replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3, "updateRevision": "b"}


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"updateStrategy": {"type": "OnDelete"}, "replicas": 3}, {}, C),
        ({"replicas": 3}, {**STS, "currentRevision": "b"}, C),
        ({"replicas": 3}, {**STS, "currentRevision": "a"}, P),
        ({"replicas": 3}, {**STS, "currentRevision": "b", "currentReplicas": 2}, P),
        ({"replicas": 3}, {**STS, "replicas": 2}, P),
        ({"replicas": 3}, {**STS, "readyReplicas": 2}, P),
        ({"replicas": 3}, {**STS, "replicas": 4}, P),
        ({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 0}}}, {**STS, "currentRevision": "a"}, C),
        ({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 0}}}, {**STS, "updatedReplicas": 2}, P),
        ({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 1}}}, {**STS, "updatedReplicas": 2}, C),
        ({}, {"replicas": 1, "readyReplicas": 1, "currentReplicas": 1}, C),
    ],
)
def test_stateful_sets(spec: Any, status: Any, expected: State) -> None:
    assert state(obj("apps/StatefulSet", spec=spec, status=status)) is expected


DS = {
    "observedGeneration": 1,
    "desiredNumberScheduled": 2,
    "currentNumberScheduled": 2,
    "updatedNumberScheduled": 2,
    "numberAvailable": 2,
    "numberReady": 2,
}


@pytest.mark.parametrize(
    ("metadata", "status", "expected"),
    [
        ({"generation": 1}, DS, C),
        ({}, DS, P),
        ({"generation": 1}, {key: value for key, value in DS.items() if key != "observedGeneration"}, P),
        ({"generation": 1}, {key: value for key, value in DS.items() if key != "desiredNumberScheduled"}, P),
        ({"generation": 1}, {"observedGeneration": 1, "desiredNumberScheduled": 0}, C),
        ({"generation": 1}, {**DS, "currentNumberScheduled": 1}, P),
        ({"generation": 1}, {**DS, "updatedNumberScheduled": 1}, P),
        ({"generation": 1}, {**DS, "numberAvailable": 1}, P),
        ({"generation": 1}, {**DS, "numberReady": 1}, P),
    ],
)
def test_daemon_sets(metadata: Any, status: Any, expected: State) -> None:
    assert state(obj("apps/DaemonSet", status=status, **metadata)) is expected


def test_daemon_sets_with_on_delete_are_not_special() -> None:
    spec = {"updateStrategy": {"type": "OnDelete"}}
    assert state(obj("apps/DaemonSet", spec=spec, status={**DS, "updatedNumberScheduled": 0}, generation=1)) is P


RS = {"replicas": 2, "fullyLabeledReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (RS, C),
        ({**RS, "conditions": [cond("ReplicaFailure")]}, P),
        ({**RS, "fullyLabeledReplicas": 1}, P),
        ({**RS, "availableReplicas": 1}, P),
        ({**RS, "readyReplicas": 1}, P),
        ({**RS, "replicas": 3}, P),
    ],
)
def test_replica_sets(status: Any, expected: State) -> None:
    assert state(obj("apps/ReplicaSet", spec={"replicas": 2}, status=status)) is expected


CRASHING = {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
UNSCHEDULABLE = [cond("PodScheduled", "False", "Unschedulable")]


@pytest.mark.parametrize(
    ("metadata", "status", "expected"),
    [
        ({}, {"phase": "Succeeded"}, C),
        ({}, {"phase": "Failed"}, C),
        ({}, {"phase": "Running", "conditions": [cond("Ready")]}, C),
        ({}, {"phase": "Running", "conditions": [cond("Ready")], "containerStatuses": [CRASHING]}, C),
        ({}, {"phase": "Running", "containerStatuses": [CRASHING]}, F),
        ({}, {"phase": "Running"}, P),
        ({"creationTimestamp": FRESH}, {"phase": "Pending", "conditions": UNSCHEDULABLE}, P),
        ({"creationTimestamp": OLD}, {"phase": "Pending", "conditions": UNSCHEDULABLE}, F),
        ({"creationTimestamp": OLD}, {"phase": "Pending"}, P),
        ({}, {"phase": "Odd"}, U),
        ({}, {}, U),
    ],
)
def test_pods(metadata: Any, status: Any, expected: State) -> None:
    assert state(obj("Pod", status=status, **metadata)) is expected


def test_a_pod_that_waits_for_a_node_is_judged_again_when_its_time_is_up() -> None:
    verdict = kstatus.compute(
        obj("Pod", status={"phase": "Pending", "conditions": UNSCHEDULABLE}, creationTimestamp=FRESH), now=NOW
    )
    assert verdict.recheck_at == NOW + 10


@pytest.mark.parametrize(
    ("spec", "status", "plain", "flux"),
    [
        ({}, {"conditions": [cond("Complete")]}, C, C),
        ({}, {"conditions": [cond("Failed")]}, F, F),
        ({}, {"conditions": [cond("Complete", "False")]}, P, P),
        ({}, {}, P, P),
        ({}, {"startTime": OLD}, C, P),
        ({"suspend": True}, {"conditions": [cond("Suspended")]}, P, C),
    ],
)
def test_jobs_and_how_flux_overrides_them(spec: Any, status: Any, plain: State, flux: State) -> None:
    job = obj("batch/Job", spec=spec, status=status)
    assert (state(job), kstatus.flux_job(job).state) == (plain, flux)


@pytest.mark.parametrize(("phase", "expected"), [("Bound", C), ("Pending", P), ("Lost", P), (None, P)])
def test_claims(phase: str | None, expected: State) -> None:
    assert state(obj("PersistentVolumeClaim", status={"phase": phase} if phase else {})) is expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "LoadBalancer"}, P),
        ({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}, C),
        ({"type": "ClusterIP"}, C),
        ({}, C),
    ],
)
def test_services(spec: Any, expected: State) -> None:
    assert state(obj("Service", spec=spec, status={"loadBalancer": {}})) is expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([cond("NamesAccepted", "False", "MultipleNamesNotAllowed")], F),
        ([cond("NamesAccepted"), cond("Established", "False", "NotAccepted")], F),
        ([cond("NamesAccepted"), cond("Established", "False", "Installing")], P),
        ([cond("NamesAccepted"), cond("Established")], C),
        ([], P),
    ],
)
def test_definitions(conditions: Any, expected: State) -> None:
    crd = obj("apiextensions.k8s.io/CustomResourceDefinition", status={"conditions": conditions})
    assert state(crd) is expected


@pytest.mark.parametrize("kind", ["Namespace", "networking.k8s.io/Ingress", "autoscaling/HorizontalPodAutoscaler"])
def test_kinds_without_a_rule_are_current_at_once(kind: str) -> None:
    assert state(obj(kind, status={})) is C
