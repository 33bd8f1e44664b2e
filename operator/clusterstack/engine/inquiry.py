"""What is known of an object's health: its verdict, and while it is not healthy, who else can say why.

An object that is not healthy is explained by its Pods or by what it owns, and, when these tell nothing for a while, by
Events. All of that is watched only until the object is healthy again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from clusterstack.core.health import EVENT, EventQuery, Server, Verdict, servers_of
from clusterstack.core.health.hooks import KINDS as HOOKS
from clusterstack.core.objects import ObjectRef
from clusterstack.engine.effort import Effort
from clusterstack.engine.judge import Evidence, Judge
from clusterstack.engine.watches import Watches
from clusterstack.engine.world import Clock, Cluster
from clusterstack.kube.facts import kind_key, object_key
from clusterstack.kube.live import Live

BLIND = 30.0
"""Seconds after which a server that cannot be read is left out of account."""
PATIENCE = 5.0
"""Seconds that an object may be on its way before its Events are looked at: most get there without."""

Follow = Callable[[Sequence[Hashable], ObjectRef, int], None]
"""Have an object looked at again when one of these keys changes, from that number of the facts on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict that counts, and the strict one where the layer's policy is another."""

    verdict: Verdict
    strict: Verdict | None = None

    @property
    def recheck_at(self) -> float | None:
        """When time alone may change either, in unix seconds."""
        strict = self.strict.recheck_at if self.strict is not None else None
        moments = [moment for moment in (self.verdict.recheck_at, strict) if moment is not None]
        return min(moments, default=None)


class Inquiry:
    """Asks the judge about one unit's objects, and watches what the answer rests on."""

    def __init__(self, cluster: Cluster, clock: Clock, judge: Judge, watches: Watches, follow: Follow) -> None:
        self._cluster, self._clock, self._judge = cluster, clock, judge
        self._watches, self._follow = watches, follow

    def find(self, ref: ObjectRef, live: Live, effort: Effort, since: int) -> Finding:
        """The verdict on an object as it is now."""
        for other in self._judge.related(live):
            served = self._cluster.preferred(other.group_kind) is not None
            self._follow([object_key(other) if served else kind_key(other.group_kind)], ref, since)
            self._watches.one(other)
        evidence = Evidence(
            applied_at=effort.changed_at(live),
            status_outdated=effort.outdated(live),
            servers=self._servers(ref, live, effort, since),
        )
        strictly = self._judge.strict
        verdict = self._judge.judge(live, evidence)
        strict = strictly.judge(live, evidence) if strictly is not None else None
        if verdict.healthy and (strict is None or strict.healthy):
            effort.ailing_since = None
            effort.served |= (evidence.servers or {}).keys()
            self._watches.childless(ref)
            return Finding(verdict, strict)
        if effort.ailing_since is None:
            effort.ailing_since = self._clock.now()
        evidence = replace(evidence, children=self._children(ref, live, since))
        if not verdict.healthy:
            verdict = self._in_words(self._judge, live, evidence, effort, since)
        if strictly is not None and strict is not None and not strict.healthy:
            strict = self._in_words(strictly, live, evidence, effort, since)
        return Finding(verdict, strict)

    def _children(self, ref: ObjectRef, live: Live, since: int) -> tuple[Live, ...] | None:
        """An object's Pods, or what it owns; None while that is not known, or where there is nothing to ask."""
        query = self._judge.children(live)
        resource = self._cluster.preferred(query.kinds[0]) if query is not None and query.kinds else None
        if query is None or resource is None:
            return None
        watch = self._watches.children(ref, resource, query.namespace, query.selector)
        self._follow([watch.key], ref, since)
        if not self._cluster.synced(watch):
            return None
        children = self._cluster.members(watch)
        if query.owner_uid:
            children = tuple(one for one in children if any(o.uid == query.owner_uid for o in one.owner_references))
        return children

    def _servers(self, ref: ObjectRef, live: Live, effort: Effort, since: int) -> dict[ObjectRef, Server] | None:
        """The Services that have to answer for a webhook configuration, as far as they have been read. One that did
        answer is not watched any longer: its workload's own health tells the rest."""
        if ref.group_kind not in HOOKS:
            return None
        known: dict[ObjectRef, Server] = {}
        for service in servers_of(live.manifest()):
            if service in effort.served:
                known[service] = Server(trusted=True)
                continue
            watches = self._watches.server(ref, service)
            self._follow([object_key(service), *(watch.key for watch in watches)], ref, since)
            if watches and all(self._cluster.synced(watch) for watch in watches):
                found, slices = self._cluster.live(service), self._cluster.members(watches[1])
                manifest = found.manifest() if found is not None else None
                known[service] = Server(manifest, tuple(one.manifest() for one in slices))
            elif effort.ailing_since is not None and self._clock.now() - effort.ailing_since > BLIND:
                known[service] = Server(trusted=True)
        return known

    def _in_words(self, judge: Judge, live: Live, evidence: Evidence, effort: Effort, since: int) -> Verdict:
        """The verdict with what the children say, and in the words of Events where nothing else has any; without the
        right to read them, as it was."""
        verdict = judge.judge(live, evidence)
        query = judge.events(live, verdict, evidence)
        if query is None:
            return verdict
        assert effort.ailing_since is not None
        early = effort.ailing_since + PATIENCE - self._clock.now()
        if early > 0:
            return verdict.by(self._clock.wall().timestamp() + early)
        events = self._events(live.ref, query, since)
        return judge.judge(live, replace(evidence, events=events)) if events else verdict

    def _events(self, ref: ObjectRef, query: EventQuery, since: int) -> tuple[Live, ...]:
        resource = self._cluster.preferred(EVENT)
        watch = None if resource is None else self._watches.events(ref, resource, query.namespace, query.uid)
        if watch is None:
            return ()
        self._follow([watch.key], ref, since)
        return self._cluster.members(watch) if self._cluster.synced(watch) else ()
