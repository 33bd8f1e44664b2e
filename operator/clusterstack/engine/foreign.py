"""Objects that a layer names but does not own: what it `requires` to open, and what its `health.checks` await."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from clusterstack.api.references import ObjectReference
from clusterstack.core.board import SYNCING
from clusterstack.core.gates import Answer, Blocker, Closed, Open, Unsynced, all_of
from clusterstack.core.objects import ObjectRef, group_of
from clusterstack.engine.context import Context
from clusterstack.engine.judge import Judge
from clusterstack.engine.served import unread
from clusterstack.engine.world import Timer
from clusterstack.kube.facts import kind_key, object_key
from clusterstack.kube.observer import Watch

HELM_GROUP = "helm.toolkit.fluxcd.io"


class Foreign:
    """A set of named objects as one gate: open when every one is there and healthy. A HelmRelease means our release."""

    def __init__(self, context: Context, references: Iterable[ObjectReference], judge: Judge) -> None:
        self._context, self._judge = context, judge
        self._references = tuple(references)
        self._watches: dict[ObjectRef, Watch] = {}
        self._related: dict[ObjectRef, frozenset[Hashable]] = {}
        self._timers: dict[ObjectRef, Timer] = {}

    def answer(self) -> Answer:
        """Whether all of them are there and healthy now; watches are opened as kinds appear."""
        return all_of(self._one(reference) for reference in self._references)

    def keys(self) -> frozenset[Hashable]:
        """What could change an open answer."""
        named = (
            self._context.release_key(f"{reference.namespace}/{reference.name}")
            if group_of(reference.api_version) == HELM_GROUP
            else object_key(
                ObjectRef(group_of(reference.api_version), reference.kind, reference.namespace or "", reference.name)
            )
            for reference in self._references
        )
        return frozenset((*named, *self._context.rules.keys)).union(*self._related.values())

    def close(self) -> None:
        for watch in self._watches.values():
            watch.release()
        self._watches.clear()
        for timer in self._timers.values():
            timer.cancel()

    def _one(self, reference: ObjectReference) -> Answer:
        group = group_of(reference.api_version)
        ref = ObjectRef(group, reference.kind, reference.namespace or "", reference.name)
        if group == HELM_GROUP:
            return self._release(ref)
        cluster = self._context.cluster
        resource = cluster.preferred(ref.group_kind)
        if resource is None:
            missing = Blocker(ref=ref, reason="KindNotServed", message=f"kind {ref.group_kind} is not served yet")
            return Closed(missing, frozenset({kind_key(ref.group_kind)}))
        if ref not in self._watches:
            self._watches[ref] = cluster.watch_object(resource, ref.namespace, ref.name)
        watch = self._watches[ref]
        keys = frozenset({object_key(ref), watch.key, *self._context.rules.keys})
        if not cluster.synced(watch):
            park = unread(resource, watch)
            blind = Blocker(ref=ref, reason=park.reason, message=park.message)
            return Unsynced(keys) if park.reason == SYNCING else Closed(blind, keys)
        live = cluster.live(ref)
        if live is None:
            return Closed(Blocker(ref=ref, reason="NotFound", message="does not exist yet"), keys)
        keys |= self._follow(ref, self._judge.related(live))
        verdict = self._judge.judge(live)
        if verdict.recheck_at is not None:
            self._look_again(ref, verdict.recheck_at)
        if verdict.healthy:
            return Open()
        return Closed(Blocker(ref=ref, reason=verdict.reason, message=verdict.message), keys)

    def _follow(self, ref: ObjectRef, others: Iterable[ObjectRef]) -> frozenset[Hashable]:
        """Watch what the verdict on an object reads beside it; the keys of that."""
        keys: set[Hashable] = set()
        for other in others:
            resource = self._context.cluster.preferred(other.group_kind)
            if resource is None:
                keys.add(kind_key(other.group_kind))
                continue
            if other not in self._watches:
                self._watches[other] = self._context.cluster.watch_object(resource, other.namespace, other.name)
            keys |= {object_key(other), self._watches[other].key}
        self._related[ref] = frozenset(keys)
        return self._related[ref]

    def _look_again(self, ref: ObjectRef, at: float) -> None:
        """Time alone may change the verdict."""
        if ref in self._timers:
            self._timers[ref].cancel()
        clock, facts = self._context.clock, self._context.cluster.facts
        delay = max(0.1, at - clock.wall().timestamp())

        def publish() -> None:
            facts.publish(object_key(ref))

        self._timers[ref] = clock.later(delay, publish)

    def _release(self, ref: ObjectRef) -> Answer:
        name = f"{ref.namespace}/{ref.name}"
        if self._context.releases.get(name):
            return Open()
        blocker = Blocker(ref=ref, reason="ReleaseNotReady", message="release is not ready yet")
        return Closed(blocker, frozenset({self._context.release_key(name)}))
