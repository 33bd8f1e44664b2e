"""All layers of a snapshot, built before any gate of that snapshot opens.

One broken build is Unknown for that layer alone. Git's own hashes of what a build looked at tell which layers need
none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from clusterstack.api.spec import LayerSpec
from clusterstack.core.content import Claim, Desired, Mode, Problem, content_digest, merge
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, digest, group_of
from clusterstack.core.prune import OWN
from clusterstack.core.scope import place
from clusterstack.core.shape import flaw
from clusterstack.core.substitute import substitute
from clusterstack.engine.contents import Content, ReleaseContent
from clusterstack.engine.context import Context
from clusterstack.engine.resolve import resolve
from clusterstack.errors import ClusterStackError, RenderError, SourceError
from clusterstack.flux.annotations import reconcile_disabled, ssa_mode, substitute_disabled
from clusterstack.flux.kinds import split
from clusterstack.flux.releases import Releases, releases
from clusterstack.helm.ownership import with_common
from clusterstack.helm.values import data_of
from clusterstack.render.kustomization import Built, build
from clusterstack.render.protocol import BuildFields
from clusterstack.sources.fetcher import Snapshot
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)


@dataclass(frozen=True, slots=True)
class _Memory:
    """A build and what it looked at; the objects are kept as JSON, for they are rarely asked for again."""

    fields: str
    hashes: Mapping[str, str]
    json: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build: effective layers in topological order, and a snapshot per source; layers that are known to be
    broken, and what else is to be said of layers.
    """

    layers: tuple[LayerSpec, ...]
    snapshots: Mapping[str, Snapshot]
    shared: tuple[Manifest, ...] = ()
    broken: Mapping[str, Problem] = field(default_factory=dict)
    warnings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def revision(self, layer: LayerSpec) -> str:
        snapshot = self.snapshots.get(layer.source or "")
        return snapshot.revision if snapshot is not None else ""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a layer owned in its last good build, and what it declared of objects that others own."""

    owned: tuple[ObjectRef, ...]
    declared: tuple[tuple[ObjectRef, Manifest], ...]


@dataclass(slots=True)
class Builder:
    """Builds the layers of one stack; remembers builds by what they looked at.

    `reads` are the objects of the cluster that the last build depended on: a change of one is a reason to build again.
    """

    context: Context
    reads: set[ObjectRef] = field(default_factory=set)
    _memory: dict[str, _Memory] = field(default_factory=dict)
    _standing: dict[str, _Standing] = field(default_factory=dict)

    async def build(self, plan: Plan) -> dict[str, Content]:
        """The content of every layer. Expected failures are in it; nothing is raised but cancellation and bugs."""
        self.reads.clear()
        outcomes = await asyncio.gather(*(self._objects(plan, layer) for layer in plan.layers))
        objects = {
            layer.name: outcome
            for layer, outcome in zip(plan.layers, outcomes, strict=True)
            if not isinstance(outcome, Problem)
        }
        broken = {
            layer.name: outcome
            for layer, outcome in zip(plan.layers, outcomes, strict=True)
            if isinstance(outcome, Problem)
        }
        found = self._releases(plan, objects)
        placed = self._merged(plan, objects)
        charts = await resolve(self.context, [spec for specs in found.specs.values() for spec in specs])
        contents = {}
        for layer in plan.layers:
            if layer.name in broken:
                contents[layer.name] = Content(layer, plan.revision(layer), "", broken=broken[layer.name])
            else:
                contents[layer.name] = self._content(plan, layer, placed[layer.name], found, charts)
        return contents

    def _content(
        self,
        plan: Plan,
        layer: LayerSpec,
        placed: tuple[list[tuple[ObjectRef, Manifest]], list[Claim]],
        found: Releases,
        charts: Mapping[str, ReleaseContent],
    ) -> Content:
        desired = tuple(self._desire(layer, ref, manifest) for ref, manifest in placed[0])
        mine = tuple(charts[spec.id] for spec in found.specs.get(layer.name, ()))
        problems = tuple(found.problems.get(layer.name, ()))
        whole = content_digest(
            (item.want for item in desired), (item.digest for item in mine), (problem.message for problem in problems)
        )
        return Content(
            layer,
            plan.revision(layer),
            whole,
            desired,
            mine,
            problems,
            tuple(placed[1]),
            broken=_fatal(problems),
            warnings=plan.warnings.get(layer.name, ()) + _rule_warnings(self.context, layer),
        )

    def _desire(self, layer: LayerSpec, ref: ObjectRef, manifest: Manifest) -> Desired:
        stamped, want = self.context.stamp(manifest, ref, layer.name)
        mode = Mode.APPLY
        if ssa_mode(manifest) == "IfNotPresent":
            mode = Mode.IF_NOT_PRESENT
        elif ssa_mode(manifest) == "Ignore" or reconcile_disabled(manifest):
            mode = Mode.IGNORE
        return Desired.of(ref, stamped, want, mode=mode, awaited=ref.group_kind not in OWN)

    async def _objects(self, plan: Plan, layer: LayerSpec) -> tuple[Manifest, ...] | Problem:
        """A layer's objects, substituted and labelled; Flux's own kinds are still among them."""
        if layer.name in plan.broken:
            return plan.broken[layer.name]
        try:
            if layer.decryption is not None:
                raise RenderError("decryption is not supported yet", reason="NotSupported", hint="remove `decryption`")
            built = await self._built(plan, layer) if layer.path is not None else ()
            variables = await self._variables(layer)
            _rule_warnings(self.context, layer)
            finished = [self._finish(manifest, layer, variables) for manifest in (*built, *layer.manifests)]
            _require_shape(finished)
        except _Missing as error:
            return Problem(error.reason, str(error), ref=error.ref, retryable=True, waits=True)
        except ClusterStackError as error:
            return Problem(error.reason, error.explained, retryable=error.retryable)
        except Exception as error:  # the boundary of a build: a bug here must not stop the neighbours
            LOG.exception("build failed", extra={"stack": self.context.stack, "layer": layer.name})
            return Problem("InternalError", f"{type(error).__name__}: {error}", retryable=True)
        return tuple(finished)

    async def _built(self, plan: Plan, layer: LayerSpec) -> tuple[Manifest, ...]:
        snapshot = plan.snapshots.get(layer.source or "")
        if snapshot is None:
            raise SourceError(f"source {layer.source or '(none)'} has not been fetched yet", reason="SourceNotReady")
        spec = layer.as_input()
        fields = BuildFields.from_spec(spec)
        key = digest([layer.path, fields.encode()])
        known = self._memory.get(layer.name)
        if known is not None and known.fields == key and known.hashes == _hashes(snapshot, known.hashes):
            return tuple(msgspec.json.decode(known.json))
        built: Built = await build(
            self.context.renderers,
            root=snapshot.path,
            path=layer.path or "",
            fetch=self.context.fetcher.fetch_file,
            fields=fields,
            source=f"source {layer.source}",
        )
        self._memory[layer.name] = _Memory(key, _hashes(snapshot, built.inputs), msgspec.json.encode(built.objects))
        return built.objects

    async def _variables(self, layer: LayerSpec) -> dict[str, str] | None:
        """Variables of `postBuild`, those of later references over earlier ones, `substitute` over all (Flux)."""
        if layer.post_build is None:
            return None
        variables: dict[str, str] = {}
        for reference in layer.post_build.substitute_from:
            kind, namespace = str(reference.kind), reference.namespace or self.context.installation.namespace
            ref = ObjectRef("", kind, namespace, reference.name)
            self.reads.add(ref)
            found = await self.context.cluster.get("v1", kind, namespace, reference.name, account=self.context.account)
            if found is None and not reference.optional:
                raise _Missing(ref)
            variables |= {name: _text(ref, name, value) for name, value in data_of(found or {}).items()}
        return variables | dict(layer.post_build.substitute)

    def _finish(self, manifest: Manifest, layer: LayerSpec, variables: Mapping[str, str] | None) -> Manifest:
        if variables is not None and not substitute_disabled(manifest):
            manifest = substitute(manifest, variables, strict=False)
        common = layer.common_metadata
        if common is not None and (common.labels or common.annotations):
            manifest = with_common(manifest, common.labels, common.annotations)
        return manifest

    def _releases(self, plan: Plan, objects: Mapping[str, Sequence[Manifest]]) -> Releases:
        flux = {layer.name: split(objects.get(layer.name, ())).flux for layer in plan.layers}
        native = {
            layer.name: [{"timeout": str(layer.timeout), **chart.as_input()} for chart in layer.charts]
            for layer in plan.layers
        }
        return releases(flux, shared=plan.shared, native=native)

    def _merged(
        self, plan: Plan, objects: Mapping[str, Sequence[Manifest]]
    ) -> dict[str, tuple[list[tuple[ObjectRef, Manifest]], list[Claim]]]:
        plain = {name: split(manifests).plain for name, manifests in objects.items()}
        for name, manifests in plain.items():
            self.context.learn(name, manifests)
        placed = {
            layer.name: [self._place(manifest, layer.target_namespace or "") for manifest in plain[layer.name]]
            for layer in plan.layers
            if layer.name in plain
        }
        known = {layer.name: self._standing[layer.name] for layer in plan.layers if layer.name in self._standing}
        held = {ref: name for name, standing in known.items() if name not in placed for ref in standing.owned}
        layers = [
            (layer.name, placed[layer.name] if layer.name in placed else known[layer.name].declared)
            for layer in plan.layers
            if layer.name in placed or layer.name in known
        ]
        merged = merge(layers, held=held)
        self._standing = known | {name: _stand(placed[name], *merged[name]) for name in placed}
        return merged

    def _place(self, manifest: Manifest, default: str) -> tuple[ObjectRef, Manifest]:
        kind = GroupKind(group_of(manifest["apiVersion"]), manifest["kind"])
        namespaced = self.context.namespaced(kind)
        return place(manifest, namespaced=namespaced, default=default if namespaced else "")


def _stand(
    placed: Sequence[tuple[ObjectRef, Manifest]],
    owned: Sequence[tuple[ObjectRef, Manifest]],
    claims: Sequence[Claim],
) -> _Standing:
    elsewhere = {claim.ref for claim in claims}
    return _Standing(tuple(ref for ref, _ in owned), tuple(item for item in placed if item[0] in elsewhere))


class _Missing(SourceError):  # noqa: N818 - reads as what happened
    """An object that a build reads does not exist yet."""

    reason = "SubstituteMissing"

    def __init__(self, ref: ObjectRef) -> None:
        super().__init__("does not exist yet; postBuild.substituteFrom needs it unless it is marked optional")
        self.ref = ref


def _text(ref: ObjectRef, name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise SourceError(f"{name} of {ref} is no text, and cannot be a variable", reason="SubstituteInvalid") from None


def _require_shape(manifests: Sequence[Manifest]) -> None:
    """What was built is checked after substitution, which may have turned texts into something else."""
    for manifest in manifests:
        if wrong := flaw(manifest):
            metadata = manifest.get("metadata")
            name = metadata.get("name") if isinstance(metadata, dict) else None
            raise RenderError(f"{manifest.get('kind') or 'an object'} {name or 'without a name'}: {wrong}")


def _rule_warnings(context: Context, layer: LayerSpec) -> tuple[str, ...]:
    """What may be wrong with the layer's health rules. Raises SpecError when one of them does not compile."""
    expressions = [expression.as_input() for expression in layer.health.expressions]
    return context.rules.warnings(expressions, source="health.expressions")


def _hashes(snapshot: Snapshot, inputs: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    return {path: _hash(snapshot, path) for path in inputs}


def _hash(snapshot: Snapshot, path: str) -> str:
    try:
        return snapshot.tree_hash(path)
    except SourceError:
        return ""  # a file whose absence mattered


def _fatal(problems: Sequence[Problem]) -> Problem | None:
    return next((problem for problem in problems if not problem.unit), None)
