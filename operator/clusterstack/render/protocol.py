"""What is asked of a renderer process, and what it answers, as plain values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterstack.core.objects import Manifest
from clusterstack.errors import RenderError

LookupKey = tuple[str, str, str, str]
"""What a chart looks up: apiVersion, kind, namespace, name; an empty name asks for a list."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A file that a build sees in place of what is on disk: its text, or the file that holds its content."""

    text: str | None = None
    file: Path | None = None

    def encode(self) -> dict[str, str]:
        return {"text": self.text} if self.text is not None else {"file": str(self.file)}


@dataclass(frozen=True, slots=True)
class BuildFields:
    """The fields of a layer that change its build, with Flux's meaning (Kustomization v1); shapes are Flux's."""

    target_namespace: str = ""
    name_prefix: str = ""
    name_suffix: str = ""
    patches: tuple[Mapping[str, Any], ...] = ()
    components: tuple[str, ...] = ()
    ignore_missing_components: bool = False
    images: tuple[Mapping[str, Any], ...] = ()
    build_metadata: tuple[str, ...] = ()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> BuildFields:
        """Reads them off a layer or a Flux Kustomization's spec; what is absent stays empty."""
        return cls(
            target_namespace=spec.get("targetNamespace") or "",
            name_prefix=spec.get("namePrefix") or "",
            name_suffix=spec.get("nameSuffix") or "",
            patches=tuple(spec.get("patches") or ()),
            components=tuple(spec.get("components") or ()),
            ignore_missing_components=bool(spec.get("ignoreMissingComponents")),
            images=tuple(spec.get("images") or ()),
            build_metadata=tuple(spec.get("buildMetadata") or ()),
        )

    def encode(self) -> dict[str, Any]:
        return {
            "targetNamespace": self.target_namespace,
            "namePrefix": self.name_prefix,
            "nameSuffix": self.name_suffix,
            "patches": [dict(patch) for patch in self.patches],
            "components": list(self.components),
            "ignoreMissingComponents": self.ignore_missing_components,
            "images": [dict(image) for image in self.images],
            "buildMetadata": list(self.build_metadata),
        }


@dataclass(frozen=True, slots=True)
class KustomizeRequest:
    """A kustomize build of the directory `path` inside `root`; nothing outside of `root` is read.

    `fields=None` builds the directory as it stands; otherwise a kustomization is generated where there is none, and the
    fields are merged in, as Flux does. `remotes` holds the content of http(s) resources by their URL.
    """

    root: Path
    path: Path
    overlay: Mapping[Path, Overlay] = field(default_factory=dict)
    remotes: Mapping[str, Path] = field(default_factory=dict)
    fields: BuildFields | None = None

    def encode(self) -> dict[str, Any]:
        return {
            "op": "kustomize",
            "root": str(self.root),
            "path": str(self.path),
            "overlay": {str(path): file.encode() for path, file in self.overlay.items()},
            "remotes": {url: str(path) for url, path in self.remotes.items()},
            "build": None if self.fields is None else self.fields.encode(),
        }


@dataclass(frozen=True, slots=True)
class KustomizeBuilt:
    """The objects of a build, in kustomize's order, and what it looked at.

    `inputs` are paths relative to the source's root: files, directories, and files whose absence mattered. As long as
    none of them changes, the same request builds the same objects.
    """

    objects: tuple[Manifest, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PostRender:
    """A HelmRelease's post-renderers, then labels and annotations for every object.

    `kustomizations` are Flux's `postRenderers[].kustomize` ({patches, images}); `strategy` is Flux's
    `postRenderStrategy`: combined (hooks with the rest), nohooks or separate.
    """

    kustomizations: tuple[Mapping[str, Any], ...] = ()
    strategy: str = "combined"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "kustomizations": [dict(kustomization) for kustomization in self.kustomizations],
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }


@dataclass(frozen=True, slots=True)
class HelmRequest:
    """One revision of a release: a chart (archive or directory) with its final values, for a cluster's capabilities.

    `api_versions` are `.Capabilities.APIVersions`: group/version and group/version/Kind. `root` bounds the symbolic
    links of a chart directory. `lookup=False` makes every lookup empty without asking.
    """

    chart: Path
    release: str
    namespace: str
    values: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1
    upgrade: bool = False
    kube_version: str = ""
    api_versions: tuple[str, ...] = ()
    lookup: bool = True
    skip_schema: bool = False
    post_render: PostRender = field(default_factory=PostRender)
    root: Path | None = None

    def encode(self) -> dict[str, Any]:
        return {
            "op": "helm",
            "chart": str(self.chart),
            "root": str(self.root) if self.root else "",
            "values": self.values,
            "release": {
                "name": self.release,
                "namespace": self.namespace,
                "revision": self.revision,
                "upgrade": self.upgrade,
            },
            "kubeVersion": self.kube_version,
            "apiVersions": list(self.api_versions),
            "lookup": self.lookup,
            "skipSchema": self.skip_schema,
            "postRender": self.post_render.encode(),
        }


@dataclass(frozen=True, slots=True)
class HookSource:
    """A hook as Helm's release record describes it; `object` is the parsed `manifest`."""

    name: str
    kind: str
    path: str
    manifest: str
    object: Manifest
    events: tuple[str, ...]
    weight: int
    delete_policies: tuple[str, ...]
    output_log_policies: tuple[str, ...]

    @classmethod
    def decode(cls, raw: Mapping[str, Any]) -> HookSource:
        return cls(
            name=raw["name"],
            kind=raw["kind"],
            path=raw["path"],
            manifest=raw["manifest"],
            object=raw["object"],
            events=tuple(raw["events"]),
            weight=raw["weight"],
            delete_policies=tuple(raw["deletePolicies"]),
            output_log_policies=tuple(raw["outputLogPolicies"]),
        )


@dataclass(frozen=True, slots=True)
class PostRendered:
    """Objects after post-rendering: `manifest` is the text that a release record holds, `objects` the same parsed."""

    manifest: str
    objects: tuple[Manifest, ...]
    hooks: tuple[HookSource, ...]

    @classmethod
    def decode(cls, raw: Mapping[str, Any]) -> PostRendered:
        return cls(raw["manifest"], tuple(raw["objects"]), tuple(HookSource.decode(hook) for hook in raw["hooks"]))


@dataclass(frozen=True, slots=True)
class HelmRendered:
    """A rendered chart.

    `manifest` is the text that Helm stores (no hooks, nothing of crds/), in Helm's install order; `objects` is the
    same, parsed, Lists expanded. `crds` are the objects under crds/. `chart` is a release record's "chart".
    `lookups` is what the chart asked the cluster for.
    """

    manifest: str
    objects: tuple[Manifest, ...]
    hooks: tuple[HookSource, ...]
    crds: tuple[Manifest, ...]
    notes: str
    chart: dict[str, Any]
    name: str
    version: str
    app_version: str
    warnings: tuple[str, ...] = ()
    lookups: tuple[LookupKey, ...] = ()

    @classmethod
    def decode(cls, raw: Mapping[str, Any], *, lookups: tuple[LookupKey, ...]) -> HelmRendered:
        return cls(
            manifest=raw["manifest"],
            objects=tuple(raw["objects"]),
            hooks=tuple(HookSource.decode(hook) for hook in raw["hooks"]),
            crds=tuple(crd for file in raw["crds"] for crd in file["objects"]),
            notes=raw["notes"],
            chart=raw["chart"],
            name=raw["metadata"]["name"],
            version=raw["metadata"]["version"],
            app_version=raw["appVersion"],
            warnings=tuple(raw["warnings"] or ()),
            lookups=lookups,
        )


@dataclass(frozen=True, slots=True)
class ChartInfo:
    """A chart's metadata (Chart.yaml), its default values, the subcharts it carries and how many files crds/ has."""

    metadata: dict[str, Any]
    values: dict[str, Any]
    dependencies: tuple[str, ...]
    crds: int


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """What the cluster holds: one object, a list, nothing (all empty), or why that cannot be told."""

    object: Manifest | None = None
    items: tuple[Manifest, ...] | None = None
    error: str = ""

    def encode(self) -> dict[str, Any]:
        if self.error:
            return {"error": self.error}
        if self.items is not None:
            return {"list": list(self.items)}
        return {"object": self.object}


Lookup = Callable[[str, str, str, str], Awaitable[LookupAnswer]]
"""Answers a chart's lookup(apiVersion, kind, namespace, name)."""


class RemotesMissing(RenderError):  # noqa: N818 - reads as what happened
    """A build refers to URLs whose content it was not given; `urls` lists them."""

    reason = "RemoteResourceMissing"

    def __init__(self, message: str, *, urls: tuple[str, ...]) -> None:
        super().__init__(message)
        self.urls = urls
