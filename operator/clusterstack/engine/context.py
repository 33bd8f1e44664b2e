"""What the coroutines of one stack share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from clusterstack.core.health import RuleSet
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.core.ownership import Owner, stamp
from clusterstack.core.scope import BUILTIN_CLUSTER_SCOPED
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
    rules: RuleSet
    account: str = ""
    scopes: dict[GroupKind, bool] = field(default_factory=dict)
    releases: dict[str, bool] = field(default_factory=dict)

    def stamp(self, manifest: Manifest, ref: ObjectRef, layer: str) -> tuple[Manifest, str]:
        """A manifest with our marks, and its digest."""
        owner = Owner(self.installation.id, self.stack, layer)
        return stamp(manifest, ref, owner, key=self.installation.key)

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
