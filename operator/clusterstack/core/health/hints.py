"""The way out, for objects that wait for what may never come: a status, or an address, that nobody writes."""

from __future__ import annotations

from dataclasses import replace

from clusterstack.core.health.fields import last_change, section, timestamp
from clusterstack.core.health.verdict import Context, State, Verdict
from clusterstack.core.objects import GroupKind, Manifest, group_of

PATIENCE = 120.0
"""Seconds after which the message tells how to go on without."""

WAY_OUT = "if it never comes, set its annotation clusterstack.dev/health: exists"

_ADDRESSED = frozenset({GroupKind("", "Service"), GroupKind("networking.k8s.io", "Ingress")})
"""Kinds whose address is written by somebody who may not be there, as on bare metal or behind a NodePort."""


def with_hint(obj: Manifest, verdict: Verdict, context: Context) -> Verdict:
    """The verdict, after a while with the annotation that ends the wait.

    Only what nobody has written is meant: what an Event or a condition explains has another cure.
    """
    if verdict.state is not State.IN_PROGRESS or not _may_never_come(obj, verdict):
        return verdict
    if timestamp(section(obj, "metadata").get("creationTimestamp")) is None:
        return verdict
    due = last_change(obj, context.applied_at) + PATIENCE
    if context.now < due:
        return verdict.by(due)
    return replace(verdict, message=f"{verdict.message}; {WAY_OUT}")


def _may_never_come(obj: Manifest, verdict: Verdict) -> bool:
    match verdict.reason:
        case "NoStatus":
            return verdict.rule.startswith("bundled:")
        case "NotReported":
            return GroupKind(group_of(obj["apiVersion"]), obj["kind"]) in _ADDRESSED
        case _:
            return False
