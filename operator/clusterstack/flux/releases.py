"""The Helm releases of a stack: HelmReleases and the charts of its layers, with every source resolved.

A release that cannot be understood, or whose source is missing, is a problem of its own; the others are not affected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from clusterstack.core.content import Problem
from clusterstack.core.objects import Manifest, ObjectRef, group_of
from clusterstack.errors import SpecError
from clusterstack.flux.charts import Catalogue
from clusterstack.flux.fields import Fields
from clusterstack.flux.helmrelease import depends_on, post_renderers, release_of, values_from
from clusterstack.flux.kinds import HELM_GROUP, HELM_RELEASE, SOURCE_GROUP, identity
from clusterstack.helm.spec import (
    DEFAULT_MAX_HISTORY,
    DEFAULT_TIMEOUT,
    ActionSpec,
    CrdsPolicy,
    ReleaseSpec,
    RepoChart,
    SecretRef,
    UninstallSpec,
    short_release_name,
)

CHART_GROUP = "clusterstack.dev"
CHART_KIND = "Chart"

_NOTHING: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({})
_CRDS = MappingProxyType({policy.value: policy for policy in CrdsPolicy})


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases of each layer, and what is wrong with those not among them; every layer is a key of both."""

    specs: dict[str, tuple[ReleaseSpec, ...]]
    problems: dict[str, tuple[Problem, ...]]


def releases(
    layers: Mapping[str, Sequence[Manifest]],
    *,
    shared: Sequence[Manifest] = (),
    native: Mapping[str, Sequence[Mapping[str, Any]]] = _NOTHING,
) -> Releases:
    """The releases that the Flux objects of all layers, and their `charts:`, declare.

    Layers come in topological order: the first that declares a release owns it. `shared` are sources declared outside
    the layers, such as those of the Flux tree itself.
    """
    everything = (manifest for objects in layers.values() for manifest in objects)
    catalogue = Catalogue.of(manifest for manifest in (*everything, *shared) if _is_source(manifest))
    names = dict.fromkeys((*layers, *native))
    specs: dict[str, list[ReleaseSpec]] = {layer: [] for layer in names}
    problems: dict[str, list[Problem]] = {layer: [] for layer in names}
    claimed: dict[tuple[str, ...], ReleaseSpec | Problem] = {}
    for layer in names:
        declared = [
            *(_flux_release(layer, manifest, catalogue) for manifest in layers.get(layer, ()) if _is_release(manifest)),
            *(native_release(layer, chart) for chart in native.get(layer, ())),
        ]
        for answer in declared:
            settled = _claim(answer, claimed)
            if isinstance(settled, Problem):
                problems[layer].append(settled)
            else:
                specs[layer].append(settled)
    _check_dependencies(specs, problems)
    return Releases(
        {layer: tuple(found) for layer, found in specs.items()},
        {layer: tuple(found) for layer, found in problems.items()},
    )


def native_release(layer: str, chart: Mapping[str, Any]) -> ReleaseSpec | Problem:
    """The release that an entry of a layer's `charts:` declares."""
    name, namespace = str(chart.get("name") or ""), str(chart.get("namespace") or "")
    origin = ObjectRef(CHART_GROUP, CHART_KIND, namespace, name)
    fields = Fields(f"layer {layer}", f"charts[{name}]", chart)
    try:
        return _native(layer, origin, fields)
    except SpecError as error:
        return _problem(error, origin)


def _native(layer: str, origin: ObjectRef, chart: Fields) -> ReleaseSpec:
    namespace, repo = chart.required("namespace"), chart.required("repo")
    timeout = chart.seconds("timeout", DEFAULT_TIMEOUT)
    action = ActionSpec(
        timeout=timeout,
        crds=chart.choice("crds", _CRDS, CrdsPolicy.CREATE.value),
        disable_wait=chart.flag("disableWait"),
        disable_hooks=chart.flag("disableHooks"),
        disable_schema_validation=chart.flag("disableSchemaValidation"),
    )
    secret = chart.map("secretRef")
    return ReleaseSpec(
        id=f"{namespace}/{chart.required('name')}",
        layer=layer,
        origin=origin,
        release_name=short_release_name(origin.name),
        namespace=namespace,
        storage_namespace=namespace,
        chart=RepoChart(
            url=repo,
            chart=chart.required("chart"),
            version=chart.text("version") or "*",
            oci=repo.startswith("oci://"),
            # an empty namespace: the operator's own, where the Secrets of sources live
            secret=SecretRef("", secret.required("name")) if secret.data else None,
        ),
        values=chart.map("values").plain(),
        values_from=values_from(chart, namespace),
        depends_on=depends_on(chart, namespace),
        timeout=timeout,
        install=action,
        upgrade=action,
        uninstall=UninstallSpec(timeout=timeout, disable_hooks=action.disable_hooks),
        create_namespace=chart.flag("createNamespace"),
        max_history=chart.number("maxHistory", DEFAULT_MAX_HISTORY),
        suspend=chart.flag("suspend"),
        post_renderers=post_renderers(chart),
    )


def _flux_release(layer: str, manifest: Manifest, catalogue: Catalogue) -> ReleaseSpec | Problem:
    _, namespace, name = identity(manifest)
    origin = ObjectRef(HELM_GROUP, HELM_RELEASE, namespace, name)
    try:
        spec = Fields(str(origin), "spec", Fields(str(origin), "", manifest).map("spec").data)
        if spec.has("kubeConfig"):
            raise spec.error("kubeConfig", "another cluster's objects are not managed from here", reason="Unsupported")
        return release_of(layer, origin, spec, catalogue.chart_of(spec, namespace))
    except SpecError as error:
        return _problem(error, origin)


def _claim(
    answer: ReleaseSpec | Problem, claimed: dict[tuple[str, ...], ReleaseSpec | Problem]
) -> ReleaseSpec | Problem:
    """Lets each id, and each Helm release, be declared once."""
    if isinstance(answer, Problem):
        claimed.setdefault((answer.unit,), answer)
        return answer
    for key in ((answer.id,), answer.key):
        other = claimed.setdefault(key, answer)
        if other is not answer:
            where = f"layer {other.layer}" if isinstance(other, ReleaseSpec) else "another layer"
            message = f"{answer.origin}: release {answer.release_name} is also declared by {where}, which keeps it"
            return Problem("DuplicateRelease", message, answer.id, answer.origin)
    return answer


def _check_dependencies(specs: dict[str, list[ReleaseSpec]], problems: dict[str, list[Problem]]) -> None:
    """Turns releases whose dependencies cannot come true into problems; cycles first, then names nobody declares."""
    edges = {spec.id: spec.depends_on for found in specs.values() for spec in found}
    known = {*edges, *(problem.unit for found in problems.values() for problem in found)}
    for layer, found in specs.items():
        sound = []
        for spec in found:
            problem = _dependency_problem(spec, edges, known)
            if problem is None:
                sound.append(spec)
            else:
                problems[layer].append(problem)
        specs[layer] = sound


def _dependency_problem(spec: ReleaseSpec, edges: Mapping[str, tuple[str, ...]], known: set[str]) -> Problem | None:
    cycle = _cycle_through(spec.id, edges)
    if cycle:
        message = f"{spec.origin}: dependsOn goes in a circle: {' → '.join(cycle)}"
        return Problem("DependencyCycle", message, spec.id, spec.origin)
    unknown = [name for name in spec.depends_on if name not in known]
    if unknown:
        message = f"{spec.origin}: spec.dependsOn names {', '.join(unknown)}, which no layer of this stack declares"
        return Problem("UnknownDependency", message, spec.id, spec.origin)
    return None


def _cycle_through(start: str, edges: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The circle of dependencies that leads from a release back to it; empty when there is none."""
    trail: dict[str, str] = {}
    waiting = [start]
    while waiting:
        current = waiting.pop()
        for dependency in edges.get(current, ()):
            if dependency == start:
                path = [start, current]
                while path[-1] != start:
                    path.append(trail[path[-1]])
                return tuple(reversed(path)) if current != start else (start, start)
            if dependency not in trail:
                trail[dependency] = current
                waiting.append(dependency)
    return ()


def _problem(error: SpecError, origin: ObjectRef) -> Problem:
    return Problem(error.reason, str(error), f"{origin.namespace}/{origin.name}", origin)


def _is_release(manifest: Manifest) -> bool:
    return manifest["kind"] == HELM_RELEASE and group_of(manifest["apiVersion"]) == HELM_GROUP


def _is_source(manifest: Manifest) -> bool:
    return group_of(manifest["apiVersion"]) == SOURCE_GROUP


def origins(specs: Iterable[ReleaseSpec]) -> dict[ObjectRef, ReleaseSpec]:
    """Releases by the object that declares them: what `healthChecks` and `requires` name."""
    return {spec.origin: spec for spec in specs}


def with_timeout(spec: ReleaseSpec, timeout: float) -> ReleaseSpec:
    """A release with another time limit for all it does, in seconds: its layer's, where it has none of its own."""
    return replace(
        spec,
        timeout=timeout,
        install=replace(spec.install, timeout=timeout),
        upgrade=replace(spec.upgrade, timeout=timeout),
        uninstall=replace(spec.uninstall, timeout=timeout),
    )
