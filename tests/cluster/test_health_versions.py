"""The version an object is read in decides where its status is: judged as the real API server tells it in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clusterstack.core.health import Context, RuleSet, State, judge
from testbed.controlplane import Cluster

pytestmark = pytest.mark.cluster

AUTOSCALERS = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str) -> dict[str, Any]:
    """Nobody starts Pods of it: it is scaled to zero."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "example.com/web:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def autoscaler(name: str, target: str) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 2},
    }


def test_an_autoscaler_is_judged_alike_in_both_of_its_versions(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    api, rules = control_plane.api, RuleSet.bundled()
    idle, lost = unique("idle"), unique("lost")
    api.create(DEPLOYMENTS, deployment(idle))
    for name in (idle, lost):
        api.create(AUTOSCALERS.format("v1"), autoscaler(name, name))
    told = AUTOSCALERS.format("v2")
    for name in (idle, lost):
        api.wait(f"{told}/{name}", lambda found: len((found or {}).get("status", {}).get("conditions", ())) > 0)
    for version in ("v1", "v2"):
        as_read = {name: api.get(f"{AUTOSCALERS.format(version)}/{name}") for name in (idle, lost)}
        assert judge(as_read[idle], Context(rules=rules)).state is State.CURRENT
        missing = judge(as_read[lost], Context(rules=rules))
        assert (missing.state, missing.reason) == (State.DEGRADED, "FailedGetScale")
    for name in (idle, lost):
        api.delete(f"{told}/{name}")
    api.delete(f"{DEPLOYMENTS}/{idle}")
