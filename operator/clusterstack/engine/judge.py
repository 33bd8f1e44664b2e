"""Health of live objects: the pure rules of `core.health`, given what the watches know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clusterstack.core.health import (
    ChildQuery,
    Context,
    EventQuery,
    Policy,
    RuleSet,
    Server,
    Verdict,
    child_query,
    collected,
    event_query,
    judge,
    related_refs,
)
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.order import is_custom
from clusterstack.engine.world import Clock, Cluster
from clusterstack.kube.live import Live


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What else is known of an object; see `core.health.Context` for the meaning."""

    applied_at: float | None = None
    status_outdated: bool = False
    children: tuple[Live, ...] | None = None
    events: tuple[Live, ...] = ()
    servers: Mapping[ObjectRef, Server] | None = None


NOTHING = Evidence()


class Judge:
    """Judges one layer's objects by its policy, and by the rules of the moment."""

    def __init__(self, cluster: Cluster, clock: Clock, *, rules: Callable[[], RuleSet], policy: Policy) -> None:
        self._cluster, self._clock = cluster, clock
        self._rules, self._policy = rules, policy
        self.strict = None if policy is Policy.STRICT else Judge(cluster, clock, rules=rules, policy=Policy.STRICT)
        """Judges strictly what this one lets pass, to show it; None where there is no difference."""

    def judge(self, live: Live, evidence: Evidence = NOTHING) -> Verdict:
        """The verdict on an object as the cache has it, by what else the cache has."""
        return self._verdict(live.manifest(), live.ref, evidence)

    def collected(self, desired: Manifest, ref: ObjectRef, end: str) -> Verdict:
        """The verdict on a Job that was seen to end (see `core.health.finished`) and was deleted since."""
        return self._verdict(collected(desired, end), ref, NOTHING)

    def _verdict(self, manifest: Manifest, ref: ObjectRef, evidence: Evidence) -> Verdict:
        children = evidence.children
        return judge(
            manifest,
            Context(
                rules=self._rules(),
                policy=self._policy,
                now=self._clock.wall().timestamp(),
                related=self._related(manifest),
                children=None if children is None else [child.manifest() for child in children],
                events=[event.manifest() for event in evidence.events],
                servers=evidence.servers,
                applied_at=evidence.applied_at,
                status_outdated=evidence.status_outdated,
                status_subresource=self._reports(ref),
            ),
        )

    def _reports(self, ref: ObjectRef) -> bool:
        """Whether a controller is to be expected to report a status: a custom kind that has one to report to."""
        resource = self._cluster.preferred(ref.group_kind)
        return is_custom(ref) and resource is not None and resource.status

    def related(self, live: Live) -> tuple[ObjectRef, ...]:
        """Other objects that the verdict reads, by name."""
        return related_refs(live.manifest(), self._rules())

    def children(self, live: Live) -> ChildQuery | None:
        """Where to look for the words of an object that is not healthy: its pods, what it owns."""
        return child_query(live.manifest(), self._rules())

    def events(self, live: Live, verdict: Verdict, evidence: Evidence) -> EventQuery | None:
        """Whose Events to look at for the words that neither the object nor its children have."""
        children = [child.manifest() for child in evidence.children or ()]
        return event_query(live.manifest(), verdict, self._rules(), children=children)

    def _related(self, manifest: Manifest) -> dict[ObjectRef, Manifest]:
        found: dict[ObjectRef, Manifest] = {}
        for ref in related_refs(manifest, self._rules()):
            live = self._cluster.live(ref)
            if live is not None:
                found[ref] = live.manifest()
        return found
