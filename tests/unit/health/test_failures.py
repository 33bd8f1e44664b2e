"""Typical failures as people read them: each names the object and the cause in one line of 160 characters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from clusterstack.core.board import Present, blocker_of
from clusterstack.core.health import MESSAGE_LENGTH, Context, RuleSet, State, event_query, judge
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
    events: tuple[Manifest, ...] = ()

    @property
    def obj(self) -> Manifest:
        version, kind, name = self.what.split()
        metadata = {"name": name, "namespace": "shop", "generation": 2, "uid": f"uid-{name}"}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": self.spec, "status": self.status}


def no(kind: str, reason: str, message: str, status: str = "False") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "reason": reason, "message": message}]}


def pod(reason: str, message: str = "", exit_code: int | None = None, image: str = "") -> Manifest:
    last = {} if exit_code is None else {"lastState": {"terminated": {"exitCode": exit_code}}}
    state = {"waiting": {"reason": reason, "message": message}}
    waiting = {"name": "web", "image": image, "restartCount": 4, "state": state, **last}
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


def ended(name: str, code: int, at: str, message: str = "") -> Manifest:
    terminated = {"exitCode": code, "reason": "Error", "finishedAt": at, "message": message}
    container = {"name": "run", "state": {"terminated": terminated}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "creationTimestamp": "2023-11-14T22:00:00Z"},
        "status": {"phase": "Failed", "containerStatuses": [container]},
    }


def starting(name: str = "web-1", phase: str = "Pending") -> Manifest:
    waiting = {"name": "web", "state": {"waiting": {"reason": "ContainerCreating"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {"nodeName": "node-1"},
        "status": {"phase": phase, "containerStatuses": [waiting]},
    }


def event(reason: str, message: str, *, type_: str = "Warning", at: str = "2023-11-14T22:13:00Z") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"e-{reason}", "creationTimestamp": "2023-11-14T22:00:00Z"},
        "type": type_,
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
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


PROVISIONING = (
    'failed to provision volume with StorageClass "fast": rpc error: code = ResourceExhausted desc = pool is full'
)
QUOTA = 'pods "x" is forbidden: exceeded quota: compute, requested: cpu=1, used: cpu=4, limited: cpu=4'
SELECTING = {"selector": {"matchLabels": {"app": "web"}}}
TOLD_BY_EVENTS = (
    Case(
        "v1 PersistentVolumeClaim data",
        {"phase": "Pending"},
        ("ProvisioningFailed", '"fast"', "pool is full"),
        events=(
            event("ExternalProvisioning", "Waiting for a volume to be created", type_="Normal"),
            event("ProvisioningFailed", PROVISIONING, at="2023-11-14T22:12:00Z"),
        ),
    ),
    Case(
        "v1 PersistentVolumeClaim data",
        {"phase": "Pending"},
        ("WaitForPodScheduled", "db-0"),
        State.IN_PROGRESS,
        events=(event("WaitForPodScheduled", "waiting for pod db-0 to be scheduled", type_="Normal"),),
    ),
    Case(
        "v1 Service web",
        {"loadBalancer": {}},
        ("address", "AllocationFailed", 'no available IPs in pool "lan"'),
        spec={"type": "LoadBalancer"},
        events=(event("AllocationFailed", 'Failed to allocate IP for "shop/web": no available IPs in pool "lan"'),),
    ),
    Case(
        "v1 Service web",
        {"loadBalancer": {}},
        ("SyncLoadBalancerFailed", "quota of addresses"),
        spec={"type": "LoadBalancer"},
        events=(
            event(
                "SyncLoadBalancerFailed",
                "Error syncing load balancer: failed to ensure load balancer: quota of addresses",
            ),
        ),
    ),
    Case(
        "apps/v1 StatefulSet db",
        {"observedGeneration": 2},
        ("FailedCreate", "exceeded quota", "limited: cpu=4"),
        events=(event("FailedCreate", f"create Pod db-0 in StatefulSet db failed error: {QUOTA}"),),
    ),
    Case(
        "apps/v1 DaemonSet agent",
        {"observedGeneration": 2, "desiredNumberScheduled": 3},
        ("FailedCreate", 'webhook "pods.example.com" denied'),
        events=(event("FailedCreate", 'Error creating: admission webhook "pods.example.com" denied the request: no'),),
    ),
    Case(
        "batch/v1 Job migrate",
        {"startTime": "2023-11-14T22:13:00Z"},
        ("FailedCreate", "exceeded quota"),
        events=(event("FailedCreate", f"(combined from similar events): Error creating: {QUOTA}"),),
    ),
    Case(
        "apps/v1 Deployment web",
        ROLLING,
        ("FailedMount", 'configmap "web-config" not found'),
        spec=SELECTING,
        pods=(starting(),),
        events=(event("FailedMount", 'MountVolume.SetUp failed for volume "cfg" : configmap "web-config" not found'),),
    ),
    Case(
        "apps/v1 Deployment web",
        ROLLING,
        ("Unhealthy", "statuscode: 503"),
        State.IN_PROGRESS,
        SELECTING,
        pods=(starting(phase="Running"),),
        events=(event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),),
    ),
    Case(
        "app.terraform.io/v1alpha2 Workspace network",
        {},
        ("ReconcileWorkspace", "resource not found"),
        events=(event("ReconcileWorkspace", "Failed to reconcile workspace: resource not found"),),
    ),
    Case(
        "networking.k8s.io/v1 Ingress web",
        {"loadBalancer": {}},
        ("FailedDeployModel", "certificate ARN"),
        events=(
            event("FailedDeployModel", "Failed deploy model due to ValidationError: certificate ARN is not valid"),
        ),
    ),
)
JOBS = (
    Case(
        "batch/v1 Job migrate",
        no("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit", "True"),
        ("BackoffLimitExceeded", "container run exited with code 3: no such table"),
        State.FAILED,
        pods=(
            ended("a", 1, "2023-11-14T22:12:00Z", "first"),
            ended("b", 3, "2023-11-14T22:13:00Z", "retrying\nno such table\n"),
            ended("c", 2, "2023-11-14T22:11:00Z", "second"),
        ),
    ),
    Case(
        "batch/v1 Job migrate",
        no("Failed", "DeadlineExceeded", "Job was active longer than specified deadline", "True"),
        ("DeadlineExceeded", "longer than specified deadline"),
        State.FAILED,
    ),
    Case(
        "batch/v1 Job migrate",
        {"startTime": "2023-11-14T22:13:00Z"},
        ("Error", "container run exited with code 1"),
        pods=(ended("a", 1, "2023-11-14T22:12:00Z"),),
    ),
    Case(
        "apps/v1 Deployment web",
        ROLLING,
        ("ImagePullBackOff", "registry.example.com/web:v3"),
        pods=(pod("ImagePullBackOff", "Back-off pulling image", image="registry.example.com/web:v3"),),
    ),
)


def told(case: Case, rules: RuleSet) -> str:
    """What people read, in the way in which the engine gets there: Events are looked at only where they are needed."""
    context = Context(rules=rules, now=NOW, children=case.pods or None)
    verdict = judge(case.obj, context)
    if case.events:
        query = event_query(case.obj, verdict, rules, children=case.pods)
        assert query is not None
        assert query.uid == (case.pods[0] if case.pods else case.obj)["metadata"]["uid"]
        verdict = judge(case.obj, replace(context, events=case.events))
    assert verdict.state is case.state, verdict
    return str(blocker_of(ref_of(case.obj), Present(verdict)))


def test_there_are_more_than_forty_of_them() -> None:
    assert len(CASES) >= 30
    assert len(CASES + TOLD_BY_EVENTS + JOBS) > 40


@pytest.mark.parametrize(
    "case", CASES + TOLD_BY_EVENTS + JOBS, ids=lambda case: f"{case.what.split()[1]}-{case.says[0]}"
)
def test_a_failure_names_object_and_cause_in_one_short_line(rules: RuleSet, case: Case) -> None:
    line = told(case, rules)
    _, kind, name = case.what.split()
    assert line.startswith(f"{kind} shop/{name}")
    assert all(part in line for part in case.says), line
    assert len(line) <= MESSAGE_LENGTH
    assert "\n" not in line
    assert '{"' not in line


def test_what_the_object_or_its_pods_tell_needs_no_events(rules: RuleSet) -> None:
    for case in CASES:
        context = Context(rules=rules, now=NOW, children=case.pods or None)
        if case.pods or case.state is not State.IN_PROGRESS:
            assert event_query(case.obj, judge(case.obj, context), rules, children=case.pods) is None, case.what


@pytest.mark.parametrize("pods", [(), (starting(phase="Running") | {"metadata": {"name": "a"}},)])
def test_a_deployment_without_a_stuck_pod_has_a_replica_set_to_tell(rules: RuleSet, pods: tuple[Manifest, ...]) -> None:
    web = replace(CASES[0], spec=SELECTING).obj
    assert event_query(web, judge(web, Context(rules=rules, now=NOW, children=pods)), rules, children=pods) is None


def test_a_workload_speaks_for_itself_only_where_it_lacks_pods(rules: RuleSet) -> None:
    ready = pod("x") | {"spec": {"nodeName": "n"}}
    ready["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    for replicas, asked in ((1, True), (2, False)):
        status = {"observedGeneration": 2, "replicas": replicas, "readyReplicas": 1}
        db = Case("apps/v1 StatefulSet db", status, (), spec={"replicas": 2, **SELECTING}).obj
        verdict = judge(db, Context(rules=rules, now=NOW, children=[ready]))
        assert verdict.state is State.IN_PROGRESS
        assert (event_query(db, verdict, rules, children=[ready]) is not None) is asked


def test_a_job_at_work_says_that_it_runs(rules: RuleSet) -> None:
    running = Case("batch/v1 Job migrate", {"active": 1, "startTime": "2023-11-14T22:13:00Z"}, ())
    assert told(replace(running, state=State.IN_PROGRESS), rules) == "Job shop/migrate: is running"


def test_a_healthy_object_is_not_explained(rules: RuleSet) -> None:
    claim = Case("v1 PersistentVolumeClaim data", {"phase": "Bound"}, ()).obj
    failed = event("ProvisioningFailed", PROVISIONING)
    verdict = judge(claim, Context(rules=rules, now=NOW, events=(failed,)))
    assert verdict.state is State.CURRENT
    assert event_query(claim, verdict, rules) is None


def test_the_newest_warning_is_told(rules: RuleSet) -> None:
    claim = TOLD_BY_EVENTS[0].obj
    series = {"count": 4, "lastObservedTime": "2023-11-14T22:13:10.123456Z"}
    repeated = event("ProvisioningFailed", "pool is full") | {"lastTimestamp": None, "series": series}
    context = Context(rules=rules, now=NOW, events=(event("ProvisioningFailed", "no such pool"), repeated))
    assert judge(claim, context).message.endswith("ProvisioningFailed: pool is full")


def test_a_long_cause_is_cut_and_the_name_never_is(rules: RuleSet) -> None:
    long = replace(TOLD_BY_EVENTS[0], what=f"v1 PersistentVolumeClaim {'data-' * 20}0")
    line = told(long, rules)
    assert line.startswith(f"PersistentVolumeClaim shop/{'data-' * 20}0: ")
    assert len(line) == MESSAGE_LENGTH
    assert line.endswith("…")
