"""Health of Kubernetes objects: pure functions from a live object, and what surrounds it, to a verdict."""

from clusterstack.core.health.judge import ANNOTATION, child_query, judge, related_refs, vanished
from clusterstack.core.health.rules import Level, RuleSet
from clusterstack.core.health.verdict import (
    GRACE,
    MESSAGE_LENGTH,
    ChildQuery,
    Context,
    Policy,
    State,
    Verdict,
    one_line,
    sentence,
)

__all__ = [
    "ANNOTATION",
    "GRACE",
    "MESSAGE_LENGTH",
    "ChildQuery",
    "Context",
    "Level",
    "Policy",
    "RuleSet",
    "State",
    "Verdict",
    "child_query",
    "judge",
    "one_line",
    "related_refs",
    "sentence",
    "vanished",
]
