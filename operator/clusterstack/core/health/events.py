"""Events as explanation: for troubles that no status tells, such as a volume that cannot be provisioned.

Only an object that is not healthy, and whose own words or Pods do not say why, is explained by its Events: the newest
warning, or what a volume or load balancer is waiting for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from clusterstack.core.health import builtin, pods
from clusterstack.core.health.fields import Fields, section, text, timestamp
from clusterstack.core.health.rules import RuleSet
from clusterstack.core.health.verdict import Context, EventQuery, State, Verdict
from clusterstack.core.objects import JOB, GroupKind, Manifest, group_of

EVENT = GroupKind("", "Event")

KINDS = frozenset(
    {
        builtin.CLAIM,
        builtin.POD,
        GroupKind("", "Service"),
        GroupKind("networking.k8s.io", "Ingress"),
        GroupKind("apps", "StatefulSet"),
        GroupKind("apps", "DaemonSet"),
        GroupKind("apps", "ReplicaSet"),
        JOB,
    }
)
"""Kinds of Kubernetes' own whose controllers report some troubles in Events only."""

_PROGRESS = frozenset({builtin.CLAIM, GroupKind("", "Service")})
"""Kinds whose normal Events tell what they wait for."""

_WORDLESS = frozenset({"NoStatus", "NotReported", State.IN_PROGRESS.value})
"""Reasons of verdicts for which the object itself gave no words."""

_LACKING = frozenset({"LessReplicas", "LessCurrent", "LessLabelled", "ReplicaFailure"})
"""Reasons of workloads that lack Pods: why none is made, only the workload's own Events tell."""

_PASSING = frozenset({"Unhealthy", "FailedScheduling", "NodeNotReady"})
"""Warnings that belong to any start: told, but no reason to call an object degraded."""

_BOILERPLATE = re.compile(
    r"^(\(combined from similar events\): |[Cc]reate Pod \S+ in \w+ \S+ failed error: |Error creating: "
    r"|Error syncing load balancer: |pods \"\S+\" is forbidden: |failed to ensure load balancer: )+"
)
_RPC = re.compile(r"rpc error: code = (\w+) desc = ")


def event_query(
    obj: Manifest, verdict: Verdict, rules: RuleSet, *, children: Sequence[Manifest] | None = None
) -> EventQuery | None:
    """Whose Events to look at, given the verdict without them; None when they are not needed or tell nothing."""
    kind = GroupKind(group_of(obj["apiVersion"]), obj["kind"])
    rule = rules.find(obj)
    asked = rule is not None and rule.events
    if verdict.state is not State.IN_PROGRESS and not (asked and verdict.state in (State.DEGRADED, State.FAILED)):
        return None
    if builtin.pods_of(obj) is not None:
        stuck = pods.stuck(children or ())
        if stuck is not None:
            return _about(stuck)
        if children and verdict.reason not in _LACKING:
            return None
    elif kind not in KINDS and not asked and verdict.reason not in _WORDLESS:
        return None
    return _about(obj) if kind in KINDS or builtin.pods_of(obj) is None else None


def _about(obj: Manifest) -> EventQuery | None:
    """The Events of an object; those of cluster-scoped objects are in the namespace `default`."""
    metadata = section(obj, "metadata")
    uid = text(metadata, "uid")
    return EventQuery(text(metadata, "namespace") or "default", uid) if uid else None


def with_events(obj: Manifest, verdict: Verdict, context: Context) -> Verdict:
    """The verdict in the words of the Events. A warning makes what is in progress degraded: it is being retried."""
    if not context.events or verdict.state not in (State.IN_PROGRESS, State.DEGRADED, State.FAILED):
        return verdict
    kind = GroupKind(group_of(obj["apiVersion"]), obj["kind"])
    told = _newest(context.events, progress=kind in _PROGRESS)
    if told is None:
        return verdict
    reason, words = text(told, "reason") or "Event", _words(text(told, "message"))
    detail = f"{reason}: {words}" if words else reason
    mute = not verdict.message or kind == builtin.CLAIM or (verdict.reason in _WORDLESS and kind not in KINDS)
    message = detail if mute else f"{verdict.message}: {detail}"
    warning = text(told, "type") == "Warning" and reason not in _PASSING
    degraded = warning and verdict.state is State.IN_PROGRESS
    return replace(verdict, state=State.DEGRADED if degraded else verdict.state, reason=reason, message=message)


def _words(message: str) -> str:
    """What an Event says, without what the line says anyway."""
    return _RPC.sub(r"\1: ", _BOILERPLATE.sub("", message))


def _newest(events: Iterable[Manifest], *, progress: bool) -> Fields | None:
    """The newest warning; without one, the newest Event at all where `progress` is worth telling."""
    ranked = sorted(events, key=_moment, reverse=True)
    warnings = (event for event in ranked if text(event, "type") == "Warning")
    return next(warnings, None) or (ranked[0] if progress and ranked else None)


def _moment(event: Manifest) -> float:
    """When an Event last happened; repeated ones keep their name and move one of these times."""
    times = (
        section(event, "series").get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        section(event, "metadata").get("creationTimestamp"),
    )
    return max(timestamp(value) or 0.0 for value in times)
