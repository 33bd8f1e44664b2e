"""Health of live objects: the pure rules of `core.health`, given what the watches know."""

from __future__ import annotations

from clusterstack.core.health import ChildQuery, Context, Policy, RuleSet, Verdict, child_query, judge, related_refs
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.order import is_custom
from clusterstack.engine.world import Clock, Cluster
from clusterstack.kube.live import Live


class Judge:
    """Judges one layer's objects by its policy and rules."""

    def __init__(self, cluster: Cluster, clock: Clock, *, rules: RuleSet, policy: Policy) -> None:
        self._cluster, self._clock = cluster, clock
        self._rules, self._policy = rules, policy

    def judge(
        self, live: Live, *, children: tuple[Live, ...] | None = None, applied_at: float | None = None
    ) -> Verdict:
        """The verdict on an object as the cache has it, by what else the cache has."""
        manifest = live.manifest()
        return judge(
            manifest,
            Context(
                rules=self._rules,
                policy=self._policy,
                now=self._clock.wall().timestamp(),
                related=self._related(manifest),
                children=None if children is None else [child.manifest() for child in children],
                applied_at=applied_at,
                status_subresource=self._reports(live.ref),
            ),
        )

    def _reports(self, ref: ObjectRef) -> bool:
        """Whether a controller is to be expected to report a status: a custom kind that has one to report to."""
        resource = self._cluster.preferred(ref.group_kind)
        return is_custom(ref) and resource is not None and resource.status

    def related(self, live: Live) -> tuple[ObjectRef, ...]:
        """Other objects that the verdict reads, by name."""
        return related_refs(live.manifest(), self._rules)

    def children(self, live: Live) -> ChildQuery | None:
        """Where to look for the words of an object that is not healthy: its pods, what it owns."""
        return child_query(live.manifest(), self._rules)

    def _related(self, manifest: Manifest) -> dict[ObjectRef, Manifest]:
        found: dict[ObjectRef, Manifest] = {}
        for ref in related_refs(manifest, self._rules):
            live = self._cluster.live(ref)
            if live is not None:
                found[ref] = live.manifest()
        return found
