"""Thirty typical failures as people read them: each names the object and the cause in one line of 160 characters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from clusterstack.core.health import MESSAGE_LENGTH, Context, RuleSet, State, judge, sentence
from clusterstack.core.objects import Manifest, ref_of

NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Case:
    """A failing object, `Group/version Kind name`, with its status, and what its sentence has to say."""

    what: str
    status: dict[str, Any]
    says: tuple[str, ...]
    state: State = State.DEGRADED
    spec: dict[str, Any] = field(default_factory=dict)
    pods: tuple[Manifest, ...] = ()

    @property
    def obj(self) -> Manifest:
        version, kind, name = self.what.split()
        metadata = {"name": name, "namespace": "shop", "generation": 2}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": self.spec, "status": self.status}


def no(kind: str, reason: str, message: str, status: str = "False") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "reason": reason, "message": message}]}


def pod(reason: str, message: str = "", exit_code: int | None = None) -> Manifest:
    last = {} if exit_code is None else {"lastState": {"terminated": {"exitCode": exit_code}}}
    waiting = {"name": "web", "restartCount": 4, "state": {"waiting": {"reason": reason, "message": message}}, **last}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1"},
        "status": {"phase": "Pending", "containerStatuses": [waiting]},
    }


def unscheduled(message: str) -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "creationTimestamp": "2023-01-01T00:00:00Z"},
        "status": {"phase": "Pending", "conditions": [condition]},
    }


ROLLING = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}
IMAGE = 'Back-off pulling image "registry.example.com/shop/web:v2"'

CASES = (
    Case(
        "apps/v1 Deployment web", ROLLING, ("ImagePullBackOff", "shop/web:v2"), pods=(pod("ImagePullBackOff", IMAGE),)
    ),
    Case(
        "apps/v1 Deployment web",
        ROLLING,
        ("CrashLoopBackOff", "exit code 137"),
        pods=(pod("CrashLoopBackOff", "back-off 5m0s", 137),),
    ),
    Case(
        "apps/v1 StatefulSet db",
        {"observedGeneration": 2, "replicas": 1},
        ("Unschedulable", "Insufficient memory"),
        pods=(unscheduled("0/3 nodes are available: 3 Insufficient memory."),),
    ),
    Case(
        "apps/v1 DaemonSet agent",
        {
            "observedGeneration": 2,
            "desiredNumberScheduled": 3,
            "currentNumberScheduled": 3,
            "updatedNumberScheduled": 3,
        },
        ("CreateContainerConfigError", 'secret "token" not found'),
        spec={"selector": {"matchLabels": {"a": "b"}}},
        pods=(pod("CreateContainerConfigError", 'secret "token" not found'),),
    ),
    Case(
        "apps/v1 Deployment web",
        no("Progressing", "ProgressDeadlineExceeded", 'ReplicaSet "web-5d" has timed out progressing.'),
        ("timed out progressing",),
        State.FAILED,
    ),
    Case(
        "batch/v1 Job migrate",
        no("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit", "True"),
        ("backoff limit",),
        State.FAILED,
    ),
    Case("v1 PersistentVolumeClaim data", {"phase": "Lost"}, ("Lost",), State.FAILED),
    Case("v1 Service web", {"loadBalancer": {}}, ("address",), State.IN_PROGRESS, {"type": "LoadBalancer"}),
    Case(
        "v1 Pod once",
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        ("low on resource",),
        State.FAILED,
    ),
    Case(
        "apiregistration.k8s.io/v1 APIService v1beta1.metrics.k8s.io",
        no("Available", "MissingEndpoints", "endpoints for service/metrics-server have no addresses"),
        ("metrics-server",),
    ),
    Case(
        "autoscaling/v2 HorizontalPodAutoscaler web",
        {
            "conditions": [
                {"type": "AbleToScale", "status": "True"},
                {
                    "type": "ScalingActive",
                    "status": "False",
                    "reason": "FailedGetResourceMetric",
                    "message": "unable to fetch metrics",
                },
            ]
        },
        ("unable to fetch metrics",),
    ),
    Case(
        "cert-manager.io/v1 ClusterIssuer letsencrypt",
        no("Ready", "ErrRegisterACMEAccount", "Failed to register ACME account: 429 rateLimited"),
        ("rateLimited",),
    ),
    Case(
        "acme.cert-manager.io/v1 Order web-1",
        {"state": "errored", "reason": "Failed to create Order: 400 urn:ietf:params:acme:error:rejectedIdentifier"},
        ("rejectedIdentifier",),
        State.FAILED,
    ),
    Case(
        "external-secrets.io/v1 ExternalSecret db",
        no("Ready", "SecretSyncedError", "could not get secret data from provider: key shop/db not found"),
        ("key shop/db not found",),
    ),
    Case(
        "gateway.networking.k8s.io/v1 Gateway public",
        no("Accepted", "InvalidParameters", "GatewayParameters public does not exist"),
        ("GatewayParameters public",),
    ),
    Case(
        "gateway.networking.k8s.io/v1 HTTPRoute web",
        {
            "parents": [
                {"parentRef": {"name": "public"}, **no("ResolvedRefs", "BackendNotFound", "Service web not found")}
            ]
        },
        ("Service web not found",),
        spec={"parentRefs": [{"name": "public"}]},
    ),
    Case(
        "kafka.strimzi.io/v1 Kafka events",
        no("NotReady", "InvalidResourceException", "Kafka events needs at least one broker", "True"),
        ("at least one broker",),
        State.FAILED,
    ),
    Case(
        "postgresql.cnpg.io/v1 Cluster db",
        {"phase": "Unable to create required cluster objects", "phaseReason": "exceeded quota: storage"},
        ("exceeded quota",),
    ),
    Case(
        "operators.coreos.com/v1alpha1 Subscription keycloak",
        no("ResolutionFailed", "ConstraintsNotSatisfiable", "no operators found in channel fast", "True"),
        ("no operators found",),
    ),
    Case(
        "helm.toolkit.fluxcd.io/v2 HelmRelease web",
        no("Stalled", "RetriesExceeded", "Failed to upgrade after 3 attempt(s)", "True"),
        ("after 3 attempt",),
        State.FAILED,
    ),
    Case(
        "argoproj.io/v1alpha1 Workflow nightly",
        {"phase": "Failed", "message": "child 'nightly-7' failed"},
        ("nightly-7",),
        State.FAILED,
    ),
    Case(
        "tekton.dev/v1 PipelineRun build",
        no("Succeeded", "TaskRunTimeout", 'TaskRun "build-test" failed to finish within "1h0m0s"'),
        ("build-test",),
        State.FAILED,
    ),
    Case(
        "velero.io/v1 Backup nightly",
        {"phase": "FailedValidation", "validationErrors": ["backup storage location 'default' is unavailable"]},
        ("'default' is unavailable",),
        State.FAILED,
    ),
    Case(
        "snapshot.storage.k8s.io/v1 VolumeSnapshot data",
        {"readyToUse": False, "error": {"message": "failed to take snapshot: rpc error: DeadlineExceeded"}},
        ("DeadlineExceeded",),
    ),
    Case(
        "s3.services.k8s.aws/v1alpha1 Bucket assets",
        no("ACK.Terminal", "", "BucketAlreadyExists: the name is taken", "True"),
        ("name is taken",),
        State.FAILED,
    ),
    Case(
        "pkg.crossplane.io/v1 Provider aws",
        {
            "conditions": [
                {"type": "Installed", "status": "True"},
                {"type": "Healthy", "status": "False", "message": "cannot resolve dependencies"},
            ]
        },
        ("cannot resolve dependencies",),
    ),
    Case(
        "monitoring.coreos.com/v1 Prometheus main",
        {
            "conditions": [
                {"type": "Available", "status": "Degraded", "message": "shard 0: pod main-1: 0/6 nodes are available"},
                {"type": "Reconciled", "status": "True"},
            ]
        },
        ("0/6 nodes",),
    ),
    Case(
        "grafana.integreatly.org/v1beta1 GrafanaDashboard web",
        no("InvalidSpec", "InvalidModel", "invalid character '}' looking for beginning of value", "True"),
        ("invalid character",),
        State.FAILED,
    ),
    Case(
        "kubevirt.io/v1 VirtualMachine legacy",
        {"printableStatus": "ErrorUnschedulable", "ready": False},
        ("ErrorUnschedulable",),
    ),
    Case(
        "example.com/v1 Widget blue",
        no(
            "Stalled",
            "InvalidSpec",
            '  spec.size is wrong:\n{"size": -1, "unit": "m"} ' + "and more of this " * 30,
            "True",
        ),
        ("spec.size is wrong",),
        State.FAILED,
    ),
)


def test_there_are_thirty_of_them() -> None:
    assert len(CASES) == 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.what.split()[1]}-{case.says[0]}")
def test_a_failure_names_object_and_cause_in_one_short_line(rules: RuleSet, case: Case) -> None:
    verdict = judge(case.obj, Context(rules=rules, now=NOW, children=case.pods or None))
    told = sentence(ref_of(case.obj), verdict)
    _, kind, name = case.what.split()
    assert verdict.state is case.state, verdict
    assert told.startswith(f"{kind} shop/{name}: ")
    assert all(part in told for part in case.says), told
    assert len(told) <= MESSAGE_LENGTH
    assert "\n" not in told
    assert '{"' not in told
