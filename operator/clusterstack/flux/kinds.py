"""Which objects are Flux's: input that is interpreted, and never applied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clusterstack.core.objects import Manifest, group_of

HELM_GROUP = "helm.toolkit.fluxcd.io"
KUSTOMIZE_GROUP = "kustomize.toolkit.fluxcd.io"
SOURCE_GROUP = "source.toolkit.fluxcd.io"

HELM_RELEASE = "HelmRelease"
KUSTOMIZATION = "Kustomization"
HELM_REPOSITORY = "HelmRepository"
HELM_CHART = "HelmChart"
GIT_REPOSITORY = "GitRepository"
OCI_REPOSITORY = "OCIRepository"

# Without Flux's controllers nobody acts on any kind of these groups, and without its CRDs nobody serves them. Those
# that only notify or scan images are put aside like the ones that are understood.
INPUT_GROUPS = frozenset(
    {
        HELM_GROUP,
        KUSTOMIZE_GROUP,
        SOURCE_GROUP,
        "source.extensions.fluxcd.io",
        "notification.toolkit.fluxcd.io",
        "image.toolkit.fluxcd.io",
    }
)

_PART_OF_LABEL = "app.kubernetes.io/part-of"


@dataclass(frozen=True, slots=True)
class Split:
    """Objects to apply, and objects to interpret; each in its original order."""

    plain: tuple[Manifest, ...]
    flux: tuple[Manifest, ...]


def is_input(manifest: Manifest) -> bool:
    """Whether an object is of one of Flux's kinds."""
    return group_of(manifest["apiVersion"]) in INPUT_GROUPS


def is_component(manifest: Manifest) -> bool:
    """Whether an object is a part of Flux itself: controllers, CRDs, RBAC, as `gotk-components.yaml` labels them."""
    labels = (manifest.get("metadata") or {}).get("labels") or {}
    return labels.get(_PART_OF_LABEL) == "flux"


def split(objects: Iterable[Manifest]) -> Split:
    """A layer's built objects, sorted into what is applied and what is interpreted."""
    plain: list[Manifest] = []
    flux: list[Manifest] = []
    for manifest in objects:
        (flux if is_input(manifest) else plain).append(manifest)
    return Split(tuple(plain), tuple(flux))


def identity(manifest: Manifest) -> tuple[str, str, str]:
    """Kind, namespace and name: what a reference between Flux objects resolves by; versions do not matter."""
    metadata = manifest.get("metadata") or {}
    return manifest["kind"], metadata.get("namespace") or "default", metadata.get("name") or ""
