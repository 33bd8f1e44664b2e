"""What the coroutines of one stack share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from clusterstack.core.clean import clean
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.core.ownership import Owner, stamp
from clusterstack.core.scope import BUILTIN_CLUSTER_SCOPED, scopes_of
from clusterstack.engine.claims import Claims
from clusterstack.engine.rules import StackRules
from clusterstack.engine.tally import Silence, Tally
from clusterstack.engine.webhooks import Webhooks
from clusterstack.engine.world import Clock, Cluster
from clusterstack.render.pool import RendererPool
from clusterstack.sources.fetcher import Fetcher


@dataclass(frozen=True, slots=True)
class Installation:
    """The operator as it is installed: its namespace, its identity, and the secret key of its digests."""

    namespace: str
    id: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Context:
    """One stack's surroundings. `account` is impersonated for every write and every read that feeds content."""

    stack: str
    installation: Installation
    cluster: Cluster
    clock: Clock
    renderers: RendererPool
    fetcher: Fetcher
    rules: StackRules
    webhooks: Webhooks
    """Those that do not answer, shared by all stacks of the process."""
    account: str = ""
    scopes: dict[GroupKind, bool] = field(default_factory=dict)
    providers: dict[GroupKind, str] = field(default_factory=dict)
    """The layer that brings a kind, as far as its CRD has been rendered."""
    releases: dict[str, bool] = field(default_factory=dict)
    claims: Claims = field(default_factory=Claims)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is about to end: what is usually seen through is then broken off, and resumed later."""
    tally: Tally = field(default_factory=Silence)
    tell: Callable[[str, str, str], None] = field(default=lambda *_: None)
    """Hears what a person should know, as a layer, a reason and a message: an Event."""

    def stamp(self, manifest: Manifest, ref: ObjectRef, layer: str) -> tuple[Manifest, str]:
        """A manifest with our marks, and its digest."""
        owner = Owner(self.installation.id, self.stack, layer)
        return stamp(clean(manifest), ref, owner, key=self.installation.key)

    def learn(self, layer: str, manifests: Iterable[Manifest]) -> None:
        """Note the kinds whose CRDs a layer brings."""
        found = scopes_of(manifests)
        self.scopes.update(found)
        self.providers.update(dict.fromkeys(found, layer))

    def namespaced(self, kind: GroupKind, scopes: Mapping[GroupKind, bool] | None = None) -> bool | None:
        """A kind's scope: as served, as a CRD of this stack declares it, or None."""
        if kind in BUILTIN_CLUSTER_SCOPED:
            return False
        served = self.cluster.namespaced(kind)
        if served is not None:
            return served
        return (scopes or {}).get(kind, self.scopes.get(kind))

    def release_key(self, release: str) -> Hashable:
        """The bus key on which a release's readiness is published."""
        return ("release", self.stack, release)

    def set_release(self, release: str, *, ready: bool) -> None:
        """Publish a release's readiness, if it changed."""
        if self.releases.get(release) is not ready:
            self.releases[release] = ready
            self.cluster.facts.publish(self.release_key(release))

    def claim_key(self, unit: str = "") -> Hashable:
        """The bus key on which a unit hears that it lost an object; without one, that objects have become free."""
        return ("claims", self.stack, unit)

    def publish_claims(self) -> None:
        """Tell those whom the last changes of the claims concern."""
        for unit in self.claims.news():
            self.cluster.facts.publish(self.claim_key(unit))
