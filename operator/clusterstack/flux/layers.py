"""A Flux tree's Kustomizations as the layers of a stack: plain dictionaries in the shape of `spec.layers`.

The root Kustomization, which applies the tree itself, is the stack; nothing waits for it, since it would wait for what
it applied. Flux's own components are left out: nothing of them runs here.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterstack.core.objects import Manifest, group_of
from clusterstack.flux.kinds import (
    GIT_REPOSITORY,
    KUSTOMIZATION,
    KUSTOMIZE_GROUP,
    SOURCE_GROUP,
    identity,
    is_component,
    is_input,
)
from clusterstack.helm.spec import parse_duration, plain

Identity = tuple[str, str, str]  # kind, namespace, name

# Fields of a Kustomization that a layer has by the same name and in the same shape.
_SAME = (
    "interval",
    "retryInterval",
    "targetNamespace",
    "namePrefix",
    "nameSuffix",
    "patches",
    "images",
    "components",
    "ignoreMissingComponents",
    "commonMetadata",
    "force",
    "suspend",
)
_MAPPED = frozenset(
    {
        *_SAME,
        "path",
        "sourceRef",
        "dependsOn",
        "prune",
        "timeout",
        "wait",
        "healthChecks",
        "healthCheckExprs",
        "postBuild",
        "decryption",
        "ignore",
        "kubeConfig",
        "buildMetadata",
    }
)
_LOST = {
    "serviceAccountName": "the layer acts as the stack's own account; set spec.serviceAccount of the stack",
    "deletionPolicy": "what a deleted layer leaves behind is decided by the stack's deletionPolicy",
}


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A field of a Kustomization that a layer cannot express; `fatal`: without it the layer must not run."""

    layer: str
    field: str
    message: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class FluxTree:
    """What a tree's built objects say.

    `root` is the root Kustomization, whose own build fields apply to the tree; `shared` are the tree's Flux sources,
    for the releases of all layers; `rest` is what else the tree applies, also the content of a layer of its own.
    """

    layers: tuple[dict[str, Any], ...]
    sources: tuple[dict[str, Any], ...] = ()
    shared: tuple[Manifest, ...] = ()
    rest: tuple[Manifest, ...] = ()
    problems: tuple[Unmapped, ...] = ()
    root: Manifest | None = None


@dataclass(slots=True)
class _Sources:
    """Which source of the stack each `sourceRef` means; grows by repositories that the stack does not name itself."""

    main: str
    main_ref: Identity | None
    known: Mapping[Identity, Manifest]
    added: dict[Identity, dict[str, Any]] = field(default_factory=dict)


def read_tree(objects: Iterable[Manifest], *, source: str, path: str, drop: Collection[str] = ()) -> FluxTree:
    """The layers that the built objects of `path` declare.

    `source` is the stack's source that holds the tree. `drop` names further Kustomizations that nothing may wait for:
    the parents of a tree inside a tree.
    """
    mine = [manifest for manifest in objects if not is_component(manifest)]
    kustomizations = [manifest for manifest in mine if _is_kustomization(manifest)]
    root = next((manifest for manifest in kustomizations if _directory(manifest) == _normal(path)), None)
    children = [manifest for manifest in kustomizations if manifest is not root]
    names = _names(children)
    shared = tuple(manifest for manifest in mine if group_of(manifest["apiVersion"]) == SOURCE_GROUP)
    rest = tuple(manifest for manifest in mine if not is_input(manifest))
    sources = _Sources(
        source, _source_ref(root) if root else None, {identity(manifest): manifest for manifest in shared}
    )
    problems: list[Unmapped] = []
    own = [_own_layer(root, rest)] if rest else []
    parents = {*drop, *([] if rest or root is None else [root["metadata"]["name"]])}
    layers = [
        _layer(manifest, names=names, parents=parents, sources=sources, problems=problems) for manifest in children
    ]
    return FluxTree((*own, *layers), tuple(sources.added.values()), shared, rest, tuple(problems), root)


def _is_kustomization(manifest: Manifest) -> bool:
    return manifest["kind"] == KUSTOMIZATION and group_of(manifest["apiVersion"]) == KUSTOMIZE_GROUP


def _normal(path: str) -> str:
    """A path inside a source, without `./` and trailing slashes; the root is `.`."""
    return posixpath.normpath(path.strip().lstrip("/") or ".")


def _directory(kustomization: Manifest) -> str:
    return _normal((kustomization.get("spec") or {}).get("path") or "")


def _names(kustomizations: Sequence[Manifest]) -> dict[Identity, str]:
    """A layer's name for each Kustomization: its own, or with its namespace where that is not unique."""
    count = Counter(manifest["metadata"]["name"] for manifest in kustomizations)
    names = {}
    for manifest in kustomizations:
        kind, namespace, name = identity(manifest)
        names[kind, namespace, name] = name if count[name] == 1 else f"{namespace}-{name}"
    return names


def _own_layer(root: Manifest | None, rest: Sequence[Manifest]) -> dict[str, Any]:
    """What the tree applies besides its Kustomizations, as the first layer."""
    spec = (root.get("spec") or {}) if root else {}
    return {
        "name": root["metadata"]["name"] if root else "flux-system",
        "manifests": [plain(manifest) for manifest in rest],
        "prune": {"enabled": bool(spec.get("prune", True))},
        "health": {"policy": "Exists"},
    }


def _layer(
    manifest: Manifest,
    *,
    names: Mapping[Identity, str],
    parents: Collection[str],
    sources: _Sources,
    problems: list[Unmapped],
) -> dict[str, Any]:
    """One Kustomization as a layer."""
    spec: dict[str, Any] = manifest.get("spec") or {}
    name = names[identity(manifest)]
    layer: dict[str, Any] = {"name": name, "path": _directory(manifest)}
    layer["source"] = _source(manifest, name, sources, problems)
    layer["dependsOn"] = _depends_on(manifest, names=names, parents=parents, layer=name, problems=problems)
    layer.update({key: plain(spec[key]) for key in _SAME if spec.get(key)})
    layer["prune"] = {"enabled": bool(spec.get("prune", False))}
    layer["timeout"] = _timeout(spec)
    layer["health"] = _health(spec)
    if spec.get("postBuild"):
        layer["postBuild"] = _post_build(manifest)
    if spec.get("decryption"):
        layer["decryption"] = {
            key: plain(value) for key, value in spec["decryption"].items() if key in ("provider", "secretRef")
        }
    if spec.get("ignore"):
        layer["drift"] = {"ignore": plain(spec["ignore"])}
    problems.extend(_unmapped(name, spec))
    return {key: value for key, value in layer.items() if value not in (None, [], {})}


def _depends_on(
    manifest: Manifest,
    *,
    names: Mapping[Identity, str],
    parents: Collection[str],
    layer: str,
    problems: list[Unmapped],
) -> list[str]:
    """The layers it waits for, each once; its parents left out, for they wait for it (they applied it)."""
    _, own_namespace, _ = identity(manifest)
    found: dict[str, None] = {}
    for entry in (manifest.get("spec") or {}).get("dependsOn") or ():
        name = entry.get("name") or ""
        known = names.get((KUSTOMIZATION, entry.get("namespace") or own_namespace, name))
        if known is None and name in parents:
            continue
        found[known or name] = None
        if entry.get("readyExpr"):
            message = f"dependsOn {name}: readyExpr is not evaluated; the layer waits until {name} is Ready"
            problems.append(Unmapped(layer, "dependsOn.readyExpr", message))
    return list(found)


def _source_ref(manifest: Manifest) -> Identity:
    _, own_namespace, _ = identity(manifest)
    ref = (manifest.get("spec") or {}).get("sourceRef") or {}
    return ref.get("kind") or GIT_REPOSITORY, ref.get("namespace") or own_namespace, ref.get("name") or ""


def _source(manifest: Manifest, layer: str, sources: _Sources, problems: list[Unmapped]) -> str:
    """The name of the stack's source that a Kustomization's `sourceRef` means."""
    ref = _source_ref(manifest)
    kind, namespace, name = ref
    if ref == sources.main_ref or (sources.main_ref is None and ref not in sources.known):
        return sources.main
    if ref in sources.added:
        return str(sources.added[ref]["name"])
    repository = sources.known.get(ref)
    if repository is None:
        message = f"sourceRef names {kind} {namespace}/{name}, which the tree does not contain"
        problems.append(Unmapped(layer, "sourceRef", message, fatal=True))
        return sources.main
    if kind != GIT_REPOSITORY:
        message = f"sourceRef names {kind} {namespace}/{name}; layers come from Git repositories"
        problems.append(Unmapped(layer, "sourceRef", message, fatal=True))
        return sources.main
    added = _git_source(repository, taken={sources.main, *(item["name"] for item in sources.added.values())})
    sources.added[ref] = added
    return str(added["name"])


def _git_source(repository: Manifest, *, taken: Collection[str]) -> dict[str, Any]:
    """A GitRepository as an entry of `spec.sources`; its Secret is looked for in the operator's namespace."""
    _, namespace, name = identity(repository)
    spec: dict[str, Any] = repository.get("spec") or {}
    git = {
        "url": spec.get("url") or "",
        "ref": {key: value for key, value in (spec.get("ref") or {}).items() if value},
        "secretRef": {"name": spec["secretRef"]["name"]} if spec.get("secretRef") else None,
    }
    entry = {
        "name": name if name not in taken else f"{namespace}-{name}",
        "interval": spec.get("interval"),
        "timeout": spec.get("timeout"),
        "suspend": spec.get("suspend") or None,
        "git": {key: value for key, value in git.items() if value},
    }
    return {key: value for key, value in entry.items() if value is not None}


def _timeout(spec: Mapping[str, Any]) -> str | None:
    """Flux's own default: the interval less half a minute, and no less than that."""
    if spec.get("timeout"):
        return str(spec["timeout"])
    try:
        interval = parse_duration(str(spec.get("interval") or ""))
    except ValueError:
        return None
    return f"{max(30, round(interval) - 30)}s"


def _health(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`wait` covers everything applied, without it only the checks count; unlike in Flux, they count beside it too."""
    health = {
        "policy": "KStatus" if spec.get("wait") else "Exists",
        "checks": [
            {key: check[key] for key in ("apiVersion", "kind", "name", "namespace") if check.get(key)}
            for check in spec.get("healthChecks") or ()
        ],
        "expressions": plain(spec.get("healthCheckExprs") or []),
    }
    return {key: value for key, value in health.items() if value}


def _post_build(manifest: Manifest) -> dict[str, Any]:
    """Substitution; what `substituteFrom` names lives in the Kustomization's namespace."""
    _, namespace, _ = identity(manifest)
    post_build: dict[str, Any] = plain(manifest["spec"]["postBuild"])
    for reference in post_build.get("substituteFrom") or ():
        reference["namespace"] = namespace
    return post_build


def _unmapped(layer: str, spec: Mapping[str, Any]) -> Iterable[Unmapped]:
    for key in spec:
        if key == "kubeConfig":
            yield Unmapped(layer, key, "kubeConfig: another cluster's objects are not managed from here", fatal=True)
        elif key in _LOST:
            yield Unmapped(layer, key, f"{key} has no effect: {_LOST[key]}")
        elif key not in _MAPPED:
            yield Unmapped(layer, key, f"{key} is not known, and has no effect")
