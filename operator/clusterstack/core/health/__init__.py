"""Health of Kubernetes objects: pure functions from a live object, and what surrounds it, to a verdict."""

from clusterstack.core.health.collected import collected, finished
from clusterstack.core.health.events import EVENT, event_query
from clusterstack.core.health.hooks import servers_of
from clusterstack.core.health.judge import ANNOTATION, child_query, judge, related_refs
from clusterstack.core.health.rules import Level, RuleSet
from clusterstack.core.health.verdict import (
    GRACE,
    MESSAGE_LENGTH,
    ChildQuery,
    Context,
    EventQuery,
    Policy,
    Server,
    State,
    Verdict,
    one_line,
)

__all__ = [
    "ANNOTATION",
    "EVENT",
    "GRACE",
    "MESSAGE_LENGTH",
    "ChildQuery",
    "Context",
    "EventQuery",
    "Level",
    "Policy",
    "RuleSet",
    "Server",
    "State",
    "Verdict",
    "child_query",
    "collected",
    "event_query",
    "finished",
    "judge",
    "one_line",
    "related_refs",
    "servers_of",
]
