"""What is said of an object while its controller works on it, from the first write to the last."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.health import Context, RuleSet, State, judge, related_refs
from clusterstack.core.objects import Manifest

C, P, D, F = State.CURRENT, State.IN_PROGRESS, State.DEGRADED, State.FAILED

Step = tuple[dict[str, Any], State]


def cond(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def having(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {"status": {"conditions": list(conditions), **status}}


KAFKA: list[Step] = [
    ({}, P),
    (having(cond("NotReady", "True", "Creating")), P),
    (having(cond("Ready", "True"), observedGeneration=1), C),
    ({**having(cond("Ready", "True"), observedGeneration=1), "metadata": {"generation": 2}}, P),
    (having(cond("NotReady", "True", "TimeoutException"), observedGeneration=1), D),
    (having(cond("NotReady", "True", "InvalidResourceException"), observedGeneration=1), F),
    (having(cond("Ready", "True"), observedGeneration=1), C),
]

REALM_IMPORT: list[Step] = [
    ({}, P),
    (having(cond("HasErrors", "True", message="No existing Deployment found, waiting for it to be created")), D),
    (having(cond("HasErrors", "True", message="Deployment not yet ready, waiting for it to be ready")), D),
    (having(cond("Started", "True", message="Import Job running"), cond("HasErrors", "False")), P),
    (having(cond("Done", "True"), cond("Started", "False"), cond("HasErrors", "False")), C),
    (having(cond("HasErrors", "True", message="Import Job failed")), F),
]


def route(*conditions: dict[str, Any]) -> dict[str, Any]:
    parents = [{"parentRef": {"name": "gw"}, "conditions": list(conditions)}] if conditions else []
    return {"spec": {"parentRefs": [{"name": "gw"}]}, "status": {"parents": parents}}


HTTP_ROUTE: list[Step] = [
    ({"spec": {"parentRefs": [{"name": "gw"}]}}, P),
    (route(), P),
    (route(cond("Accepted", "True"), cond("ResolvedRefs", "False", "BackendNotFound")), D),
    (route(cond("Accepted", "True"), cond("ResolvedRefs", "True")), C),
    ({**route(cond("Accepted", "True"), cond("ResolvedRefs", "True")), "spec": {"parentRefs": [{"name": "other"}]}}, P),
]


def collector(replicas: int, scale: str, **status: Any) -> dict[str, Any]:
    return {
        "spec": {"mode": "deployment", "replicas": replicas},
        "status": {"scale": {"statusReplicas": scale}, **status},
    }


COLLECTOR: list[Step] = [
    ({"spec": {"mode": "deployment"}}, P),
    (collector(1, "0/1"), P),
    (collector(1, "1/1"), C),
    (collector(2, "1/1"), P),
    (collector(2, "1/2"), P),
    (collector(2, "2/2"), C),
]

VM: list[Step] = [
    ({"metadata": {"generation": 1}}, P),
    ({"metadata": {"generation": 1}, "status": {"updateStatus": "operational", "observedGeneration": 1}}, C),
    ({"metadata": {"generation": 2}, "status": {"updateStatus": "operational", "observedGeneration": 1}}, P),
    ({"metadata": {"generation": 2}, "status": {"updateStatus": "expanding", "observedGeneration": 2}}, P),
    ({"metadata": {"generation": 2}, "status": {"updateStatus": "operational", "observedGeneration": 2}}, C),
]

EXTERNAL_SECRET: list[Step] = [
    ({"metadata": {"generation": 1}}, P),
    ({"metadata": {"generation": 1}, **having(cond("Ready", "False", "SecretSyncedError"))}, D),
    ({"metadata": {"generation": 1}, **having(cond("Ready", "True"), syncedResourceVersion="1-x")}, C),
    ({"metadata": {"generation": 2}, **having(cond("Ready", "True"), syncedResourceVersion="1-x")}, P),
    ({"metadata": {"generation": 2}, **having(cond("Ready", "True"), syncedResourceVersion="2-y")}, C),
]


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("kafka.strimzi.io/Kafka", KAFKA),
        ("k8s.keycloak.org/KeycloakRealmImport", REALM_IMPORT),
        ("gateway.networking.k8s.io/HTTPRoute", HTTP_ROUTE),
        ("opentelemetry.io/OpenTelemetryCollector", COLLECTOR),
        ("operator.victoriametrics.com/VMSingle", VM),
        ("external-secrets.io/ExternalSecret", EXTERNAL_SECRET),
    ],
)
def test_every_step_of_a_life_is_judged(rules: RuleSet, kind: str, steps: list[Step]) -> None:
    group, _, name = kind.rpartition("/")
    for number, (fields, expected) in enumerate(steps):
        metadata = {"name": "x", "namespace": "ns", "generation": 1, **fields.get("metadata", {})}
        obj: Manifest = {"spec": {}, **fields, "apiVersion": f"{group}/v1", "kind": name, "metadata": metadata}
        verdict = judge(obj, Context(rules=rules, now=1e9))
        assert verdict.state is expected, f"step {number}: {verdict}"


def test_a_subscription_is_current_once_its_csv_is(rules: RuleSet) -> None:
    def subscription(**status: str) -> Manifest:
        metadata = {"name": "x", "namespace": "ns"}
        return {
            "apiVersion": "operators.coreos.com/v1alpha1",
            "kind": "Subscription",
            "metadata": metadata,
            "status": status,
        }

    pending = subscription(state="UpgradePending", currentCSV="k.v1")
    latest = subscription(state="AtLatestKnown", currentCSV="k.v1", installedCSV="k.v1")
    seen = []
    for obj, phase in ((pending, ""), (latest, ""), (latest, "Installing"), (latest, "Succeeded")):
        made = {
            "apiVersion": "operators.coreos.com/v1alpha1",
            "kind": "ClusterServiceVersion",
            "status": {"phase": phase},
        }
        related = dict.fromkeys(related_refs(obj, rules), made) if phase else {}
        seen.append(judge(obj, Context(rules=rules, related=related)).state)
    assert seen == [P, P, P, C]
