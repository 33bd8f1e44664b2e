"""What the operators of networks, certificates, secrets and telemetry write, and controllers that no rule knows."""

from __future__ import annotations

from collections.abc import Iterator

from .bed import Manifest
from .objects import crd
from .sequence import GRACE, NO_STATUS, PROMPT, STALE, TIME, Sequence, Step, condition, conditions


def cluster() -> tuple[Sequence, ...]:
    """All of them."""
    return (
        _http_route(),
        _gateway(),
        _collector(),
        _victoria_metrics(),
        _external_secret(),
        _certificate(),
        _agent_pool(),
        _application(),
        *_unknown_kinds(),
    )


def _parents(*entries: Manifest) -> Manifest:
    parent = {"parentRef": {"name": "gw"}, "controllerName": "example.org/gateway", "conditions": list(entries)}
    return {"parents": [parent] if entries else []}


def _http_route() -> Sequence:
    """Gateway API 1.4: no parent has answered, the backend is not there yet, it is, and again for a new generation."""

    def spec(backend: str) -> Manifest:
        return {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": backend, "port": 80}]}]}

    def answered(generation: int, *, resolved: bool = True) -> Manifest:
        reason, message = ("ResolvedRefs", "ok") if resolved else ("BackendNotFound", "Service web not found")
        return _parents(
            condition("Accepted", True, "Accepted", "accepted", observedGeneration=generation),
            condition("ResolvedRefs", resolved, reason, message, observedGeneration=generation),
        )

    return Sequence(
        "an HTTPRoute that nobody has answered, then without its backend",
        "httproutes.gateway.networking.k8s.io",
        spec("web"),
        (
            Step("NoStatus", NO_STATUS),
            Step("NotReported", "status.parents is not reported yet", status=_parents()),
            Step("BackendNotFound", "Service web not found", status=answered(1, resolved=False)),
            Step(status=answered(1)),
            Step(STALE, "its conditions are of an earlier generation", spec=spec("other")),
            Step("BackendNotFound", "Service web not found", status=answered(2, resolved=False)),
            Step(status=answered(2)),
        ),
    )


def _gateway() -> Sequence:
    """Gateway API 1.4: the CRD itself says Pending until a controller comes; then there is no address."""

    def status(address: str) -> Manifest:
        programmed = "Programmed" if address else "AddressNotAssigned"
        missing = "" if address else "No addresses have been assigned to the Gateway"
        listener = {
            "name": "http",
            "attachedRoutes": 0,
            "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
            "conditions": [
                condition("Accepted", True, "Accepted", "", observedGeneration=1),
                condition("Conflicted", False, "NoConflicts", "", observedGeneration=1),
                condition("ResolvedRefs", True, "ResolvedRefs", "", observedGeneration=1),
                condition("Programmed", bool(address), programmed, missing, observedGeneration=1),
            ],
        }
        return conditions(
            condition("Accepted", True, "Accepted", "", observedGeneration=1),
            condition("Programmed", bool(address), programmed, missing, observedGeneration=1),
            listeners=[listener],
            addresses=[{"type": "IPAddress", "value": address}] if address else [],
        )

    return Sequence(
        "a Gateway without a controller, then without an address",
        "gateways.gateway.networking.k8s.io",
        {"gatewayClassName": "any", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        (
            Step("Pending", "Waiting for controller"),
            Step("AddressNotAssigned", "No addresses have been assigned to the Gateway", status=status("")),
            Step(status=status("10.0.0.9")),
        ),
    )


def _collector() -> Sequence:
    """OpenTelemetry operator 0.145: `ready/total` and no generation at all."""
    pipeline = {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["debug"]}}}
    config = {"receivers": {"otlp": {"protocols": {"grpc": {}}}}, "exporters": {"debug": {}}, "service": pipeline}

    def status(ready: str) -> Manifest:
        return {"version": "0.145.0", "scale": {"replicas": int(ready[-1]), "statusReplicas": ready}}

    return Sequence(
        "an OpenTelemetryCollector that is scaled up by a new spec while the old status still says 1/1",
        "opentelemetrycollectors.opentelemetry.io",
        {"mode": "deployment", "replicas": 1, "config": config},
        (
            Step("NoStatus", NO_STATUS),
            Step("StatusReplicas", "scale.statusReplicas is 0/1", status=status("0/1")),
            Step(status=status("1/1")),
            Step(
                "StatusReplicas",
                "scale.statusReplicas is 1/1",
                spec={"mode": "deployment", "replicas": 2, "config": config},
            ),
            Step("StatusReplicas", "scale.statusReplicas is 1/2", status=status("1/2")),
            Step(status=status("2/2")),
        ),
    )


def _victoria_metrics() -> Sequence:
    """VictoriaMetrics operator 0.68."""

    def status(state: str, generation: int) -> Manifest:
        return {"updateStatus": state, "observedGeneration": generation}

    return Sequence(
        "a VMSingle that is operational, but for the spec before",
        "vmsingles.operator.victoriametrics.com",
        {"retentionPeriod": "1"},
        (
            Step("NoStatus", NO_STATUS),
            Step("Expanding", "updateStatus is expanding", status=status("expanding", 1)),
            Step(status=status("operational", 1)),
            Step(STALE, "generation 2 is not observed yet (last seen: 1)", spec={"retentionPeriod": "2"}),
            Step("Expanding", "updateStatus is expanding", status=status("expanding", 2)),
            Step(status=status("operational", 2)),
        ),
    )


def _external_secret() -> Sequence:
    """External Secrets 2.0: the generation is in the first part of syncedResourceVersion alone."""

    def spec(key: str) -> Manifest:
        data = [{"secretKey": "password", "remoteRef": {"key": key}}]
        return {"refreshInterval": "1h", "secretStoreRef": {"kind": "ClusterSecretStore", "name": "any"}, "data": data}

    def synced(version: str) -> Manifest:
        done = condition("Ready", True, "SecretSynced", "secret synced")
        return conditions(done, syncedResourceVersion=version, refreshTime=TIME)

    refused = condition("Ready", False, "SecretSyncedError", "could not get secret data from provider")
    return Sequence(
        "an ExternalSecret that is synced, but for the spec before",
        "externalsecrets.external-secrets.io",
        spec("one"),
        (
            Step("NoStatus", NO_STATUS),
            Step("SecretSyncedError", "could not get secret data from provider", status=conditions(refused)),
            Step(status=synced("1-0c4f")),
            Step("SyncedResourceVersion", "syncedResourceVersion is 1-0c4f", spec=spec("two")),
            Step(status=synced("2-77ab")),
        ),
    )


def _certificate() -> Sequence:
    """cert-manager 1.19: Ready is False while the first one is issued, which is no error."""
    missing = condition(
        "Ready", False, "DoesNotExist", "Issuing certificate as Secret does not exist", observedGeneration=1
    )
    issuing = condition(
        "Issuing", True, "DoesNotExist", "Issuing certificate as Secret does not exist", observedGeneration=1
    )
    refused = condition(
        "Issuing", False, "Failed", "The certificate request has failed to complete", observedGeneration=1
    )
    ready = condition("Ready", True, "Ready", "Certificate is up to date and has not expired", observedGeneration=1)
    return Sequence(
        "a Certificate that is being issued, refused, and issued",
        "certificates.cert-manager.io",
        {"secretName": "tls", "issuerRef": {"name": "any", "kind": "ClusterIssuer"}, "dnsNames": ["it.example.org"]},
        (
            Step("NoStatus", NO_STATUS),
            Step("DoesNotExist", "Issuing certificate as Secret does not exist", status=conditions(missing, issuing)),
            Step(
                "DoesNotExist",
                "The certificate request has failed to complete",
                status=conditions(missing, refused, lastFailureTime=TIME, failedIssuanceAttempts=1),
            ),
            Step(
                "DoesNotExist",
                "Issuing certificate as Secret does not exist",
                status=conditions(missing, issuing, lastFailureTime=TIME, failedIssuanceAttempts=1),
            ),
            Step(status=conditions(ready, revision=1)),
        ),
    )


def _agent_pool() -> Sequence:
    """HCP Terraform operator 2.11: observedGeneration is written last, and nothing is ever said of an error."""
    token = {"secretKeyRef": {"name": "token", "key": "token"}}
    return Sequence(
        "an AgentPool whose only sign is the generation it has seen",
        "agentpools.app.terraform.io",
        {"name": "pool", "organization": "home", "token": token},
        (
            Step("NoStatus", NO_STATUS),
            Step(status={"agentPoolID": "apool-1", "observedGeneration": 1}),
            Step(STALE, "generation 2 is not", spec={"name": "other", "organization": "home", "token": token}),
            Step(status={"agentPoolID": "apool-1", "observedGeneration": 2}),
        ),
    )


def _application() -> Sequence:
    """Argo CD 3: no status subresource, so every status is a new generation."""

    def status(health: str, sync: str = "Synced") -> Manifest:
        return {"health": {"status": health}, "sync": {"status": sync}}

    return Sequence(
        "an Application that is synced before it is healthy",
        "applications.argoproj.io",
        {"project": "default", "destination": {"name": "in-cluster"}, "syncPolicy": {"automated": {}}},
        (
            Step("NoStatus", NO_STATUS),
            Step("Missing", "health.status is Missing", status=status("Missing", "OutOfSync")),
            Step("Progressing", "health.status is Progressing", status=status("Progressing")),
            Step("Degraded", "health.status is Degraded", status=status("Degraded")),
            Step(status=status("Healthy")),
        ),
    )


def unknown(kind: str, *, reports: bool) -> Manifest:
    """The definition of a kind that no rule knows; whether it has a status subresource."""
    definition = crd(kind, "sequences.example.org")
    if reports:
        definition["spec"]["versions"][0]["subresources"] = {"status": {}}
    return definition


HAND_MADE = {
    definition["metadata"]["name"]: definition
    for definition in (unknown("Reporter", reports=True), unknown("Record", reports=False))
}


def _unknown_kinds() -> Iterator[Sequence]:
    reporter, record = HAND_MADE
    waiting = condition("Ready", False, "Provisioning", "three of four steps are done")
    yield Sequence(
        "an object of an unknown kind whose controller reports a condition",
        reporter,
        {"size": 1},
        (
            Step("NoStatus", NO_STATUS),
            Step("Provisioning", "three of four steps are done", status=conditions(waiting)),
            Step(status=conditions(condition("Ready", True))),
            Step("StatusOutdated", "has not looked at the last change yet", spec={"size": 2}),
            Step("Provisioning", "three of four steps are done", status=conditions(waiting)),
            Step(status=conditions(condition("Ready", True))),
        ),
    )
    yield Sequence(
        "an object of an unknown kind whose first report ends the wait",
        reporter,
        {"size": 1},
        (Step("NoStatus", NO_STATUS), Step(status={"address": "10.0.0.9"})),
    )
    yield Sequence(
        "an object of an unknown kind that nobody ever reports on",
        reporter,
        {"size": 1},
        (Step("NoStatus", NO_STATUS), Step(patience=GRACE + PROMPT)),
    )
    yield Sequence("an object of an unknown kind that has no status", record, {"size": 1}, (Step(),))
