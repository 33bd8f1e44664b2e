"""What a release is rendered from: its chart, and values composed of ConfigMaps and Secrets as they are now."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from clusterstack.core.gates import Blocker
from clusterstack.core.objects import Manifest, ObjectRef, group_of
from clusterstack.engine.context import Context
from clusterstack.errors import ClusterStackError, LookupFailed
from clusterstack.helm.digest import input_digest
from clusterstack.helm.spec import ReleaseSpec
from clusterstack.helm.values import Composed, Invalid, Missing, compose, data_of, sources
from clusterstack.kube.facts import kind_key, object_key
from clusterstack.kube.observer import Watch
from clusterstack.sources.fetcher import ResolvedChart


class NotYet(Exception):  # noqa: N818 - reads as what happened
    """The release waits: on these keys, and at most for `pause` seconds."""

    def __init__(self, blocker: Blocker, keys: Sequence[Hashable], pause: float = 30.0) -> None:
        super().__init__(blocker.message)
        self.blocker, self.keys, self.pause = blocker, tuple(keys), pause


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a rendering depends on, and its digest."""

    chart: ResolvedChart
    values: Manifest
    digest: str


class InputReader:
    """Reads one release's inputs, and watches what they are read from until it is closed."""

    def __init__(self, context: Context, spec: ReleaseSpec, *, account: str) -> None:
        self._context, self._spec, self._account = context, spec, account
        self._watches: dict[ObjectRef, Watch] = {}

    async def read(self, chart: ResolvedChart) -> Inputs:
        """The inputs as they are now. Raises NotYet while a ConfigMap, a Secret or a key of one is missing."""
        reader = {}
        for kind, namespace, name in sources(self._spec):
            found = await self._context.cluster.get("v1", kind, namespace, name, account=self._account)
            reader[kind, namespace, name] = None if found is None else data_of(found)
        match compose(self._spec, reader):
            case Composed(values):
                key = self._context.installation.key
                return Inputs(
                    chart, values, input_digest(self._spec, chart_digest=chart.digest, values=values, key=key)
                )
            case Missing(kind, namespace, name, _, message):
                ref = ObjectRef("", kind, namespace, name)
                raise NotYet(Blocker(ref=ref, reason="ValuesMissing", message=message), [object_key(ref)])
            case Invalid() as invalid:
                raise ClusterStackError(invalid.message, reason="ValuesInvalid")

    def keys(self) -> list[Hashable]:
        """What changes the values."""
        return [self.observe(ObjectRef("", kind, namespace, name)) for kind, namespace, name in sources(self._spec)]

    def lookup_keys(self, error: LookupFailed) -> list[Hashable]:
        """What would change the answers of a failed rendering's lookups."""
        keys: list[Hashable] = []
        for api_version, kind, namespace, name in error.keys:
            ref = ObjectRef(group_of(api_version), kind, namespace, name)
            keys.append(kind_key(ref.group_kind))
            if name:
                keys.append(self.observe(ref))
        return keys

    def observe(self, ref: ObjectRef) -> Hashable:
        """Watch one object for as long as the release lives; the key on which its changes are published."""
        resource = self._context.cluster.preferred(ref.group_kind)
        if ref not in self._watches and resource is not None:
            self._watches[ref] = self._context.cluster.watch_object(resource, ref.namespace, ref.name)
        return object_key(ref)

    def close(self) -> None:
        for watch in self._watches.values():
            watch.release()
        self._watches.clear()
