"""HorizontalPodAutoscalers: what their conditions are in either version, and how long metrics may take to come."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from clusterstack.core.health.fields import condition, section, text, timestamp
from clusterstack.core.health.verdict import Context, State, Verdict
from clusterstack.core.objects import GroupKind, Manifest, group_of

KIND = GroupKind("autoscaling", "HorizontalPodAutoscaler")
CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
"""Annotation under which autoscaling/v1, whose status has no conditions, shows those of autoscaling/v2 as JSON."""

PATIENCE = 120.0
"""Seconds for which new Pods may have no metrics yet: they are scraped twice before there is a rate."""

_NO_METRICS = frozenset(
    {
        "FailedGetResourceMetric",
        "FailedGetContainerResourceMetric",
        "FailedGetPodsMetric",
        "FailedGetObjectMetric",
        "FailedGetExternalMetric",
        "FailedComputeMetricsReplicas",
    }
)


def complete(obj: Manifest) -> Manifest:
    """The object with its conditions where autoscaling/v2 has them; any other object as it is."""
    if not _is_one(obj):
        return obj
    told = section(section(obj, "metadata"), "annotations").get(CONDITIONS)
    status = section(obj, "status")
    if "conditions" in status or not isinstance(told, str):
        return obj
    try:
        conditions: Any = json.loads(told)
    except ValueError:
        return obj
    return {**obj, "status": {**status, "conditions": conditions}}


def patient(obj: Manifest, verdict: Verdict, context: Context) -> Verdict:
    """In progress, not degraded, while metrics are missing only since a moment ago, as after any rollout."""
    if verdict.state is not State.DEGRADED or verdict.reason not in _NO_METRICS or not _is_one(obj):
        return verdict
    active = condition(obj, "ScalingActive") or {}
    since = timestamp(text(active, "lastTransitionTime"))
    if since is None or context.now >= since + PATIENCE:
        return verdict
    return replace(verdict, state=State.IN_PROGRESS).by(since + PATIENCE)


def _is_one(obj: Manifest) -> bool:
    return obj["kind"] == KIND.kind and group_of(obj["apiVersion"]) == KIND.group
