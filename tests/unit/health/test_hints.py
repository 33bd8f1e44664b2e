"""What time adds for those who wait for what may never come, and for metrics that are about to."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.health import Context, RuleSet, State, Verdict, judge
from clusterstack.core.health.autoscaler import PATIENCE as METRICS
from clusterstack.core.health.hints import PATIENCE, WAY_OUT
from clusterstack.core.objects import Manifest

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
CREATED = "2023-11-14T22:13:20Z"


def ingress(**metadata: Any) -> Manifest:
    named = {"name": "web", "namespace": "shop", "uid": "u", "creationTimestamp": CREATED, **metadata}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": named, "status": {"loadBalancer": {}}}


def after(rules: RuleSet, seconds: float, obj: Manifest, **context: Any) -> Verdict:
    return judge(obj, Context(rules=rules, now=NOW + seconds, **context))


def test_the_way_out_is_told_when_a_load_balancer_would_have_been_there(rules: RuleSet) -> None:
    early, late = after(rules, 5, ingress()), after(rules, PATIENCE, ingress())
    assert WAY_OUT not in early.message
    assert early.recheck_at == NOW + PATIENCE
    assert late.message == f"{early.message}; {WAY_OUT}"
    assert (late.state, late.recheck_at) == (State.IN_PROGRESS, None)


def test_the_wait_begins_anew_when_the_object_is_changed(rules: RuleSet) -> None:
    assert WAY_OUT not in after(rules, PATIENCE, ingress(), applied_at=NOW + 1).message


def test_whoever_is_told_the_cause_needs_no_way_out(rules: RuleSet) -> None:
    event = {"type": "Warning", "reason": "Sync", "message": "no address is left", "lastTimestamp": CREATED}
    told = after(rules, PATIENCE, ingress(), events=[event])
    assert "no address is left" in told.message
    assert WAY_OUT not in told.message


@pytest.mark.parametrize(("status", "told"), [({}, True), ({"conditions": [{"type": "X", "status": "True"}]}, False)])
def test_a_controller_that_is_at_work_is_not_doubted(rules: RuleSet, status: dict[str, Any], told: bool) -> None:
    metadata = {"name": "k", "namespace": "shop", "creationTimestamp": CREATED}
    kafka = {"apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": metadata, "spec": {}, "status": status}
    assert (WAY_OUT in after(rules, PATIENCE, kafka).message) is told


@pytest.mark.parametrize("reason", ["FailedGetResourceMetric", "FailedGetScale"])
def test_only_missing_metrics_are_given_time(rules: RuleSet, reason: str) -> None:
    active = {"type": "ScalingActive", "status": "False", "reason": reason, "lastTransitionTime": CREATED}
    able = {"type": "AbleToScale", "status": "True", "reason": "SucceededGetScale"}
    scaler: Manifest = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}}
    scaler["status"] = {"conditions": [able, active]}
    early, late = after(rules, METRICS - 1, scaler), after(rules, METRICS, scaler)
    patient = reason == "FailedGetResourceMetric"
    assert early.state is (State.IN_PROGRESS if patient else State.DEGRADED)
    assert early.recheck_at == (NOW + METRICS if patient else None)
    assert late.state is State.DEGRADED


@pytest.mark.parametrize("told", ["", "no JSON", '{"type": "AbleToScale"}'])
def test_conditions_in_an_annotation_that_cannot_be_read_wait(rules: RuleSet, told: str) -> None:
    annotations = {"autoscaling.alpha.kubernetes.io/conditions": told}
    metadata = {"name": "x", "annotations": annotations}
    scaler = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "status": {}}
    verdict = after(rules, METRICS, scaler)
    assert verdict.state is not State.CURRENT
    assert not verdict.failed
