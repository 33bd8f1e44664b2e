"""The labels and annotations by which users steer Flux, and the questions they answer.

As in Flux, each is honoured as a label or as an annotation, and the case of its value does not matter
(fluxcd/pkg ssa/utils AnyInMetadata).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from clusterstack.core.objects import Manifest

KUSTOMIZE_PREFIX = "kustomize.toolkit.fluxcd.io"
HELM_PREFIX = "helm.toolkit.fluxcd.io"
RECONCILE_PREFIX = "reconcile.fluxcd.io"

SsaMode = Literal["Override", "Merge", "IfNotPresent", "Ignore"]

_SSA_MODES: tuple[SsaMode, ...] = ("Override", "Merge", "IfNotPresent", "Ignore")


def prune_disabled(manifest: Manifest) -> bool:
    """Never deleted because it left the build. Flux asks this of the live object."""
    return _says(manifest, f"{KUSTOMIZE_PREFIX}/prune", "disabled")


def reconcile_disabled(manifest: Manifest) -> bool:
    """Neither applied nor deleted."""
    return _says(manifest, f"{KUSTOMIZE_PREFIX}/reconcile", "disabled")


def force_enabled(manifest: Manifest) -> bool:
    """Deleted and created again where a change is refused as immutable."""
    return _says(manifest, f"{KUSTOMIZE_PREFIX}/force", "enabled")


def substitute_disabled(manifest: Manifest) -> bool:
    """Left out of variable substitution."""
    return _says(manifest, f"{KUSTOMIZE_PREFIX}/substitute", "disabled")


def decrypt_disabled(manifest: Manifest) -> bool:
    """Left out of decryption."""
    return _says(manifest, f"{KUSTOMIZE_PREFIX}/decrypt", "disabled")


def drift_disabled(manifest: Manifest) -> bool:
    """An object of a release whose drift is not looked at."""
    return _says(manifest, f"{HELM_PREFIX}/driftDetection", "disabled")


def ssa_mode(manifest: Manifest) -> SsaMode:
    """How an object is applied; `IfNotPresent` counts on the desired object only, which is the caller's to mind."""
    return next((mode for mode in _SSA_MODES[1:] if _says(manifest, f"{KUSTOMIZE_PREFIX}/ssa", mode)), "Override")


def requested_at(metadata: Mapping[str, Any]) -> str:
    """The token of the last request to reconcile (`flux reconcile`); empty when there was none."""
    return _annotation(metadata, "requestedAt")


def force_at(metadata: Mapping[str, Any]) -> str:
    """The token of a request for one forced release action; it counts only when it equals `requested_at`."""
    return _if_requested(metadata, "forceAt")


def reset_at(metadata: Mapping[str, Any]) -> str:
    """The token of a request to forget failures; it counts only when it equals `requested_at`."""
    return _if_requested(metadata, "resetAt")


def _says(manifest: Manifest, key: str, value: str) -> bool:
    metadata = manifest.get("metadata") or {}
    return any(
        str((metadata.get(field) or {}).get(key, "")).lower() == value.lower() for field in ("labels", "annotations")
    )


def _annotation(metadata: Mapping[str, Any], name: str) -> str:
    return str((metadata.get("annotations") or {}).get(f"{RECONCILE_PREFIX}/{name}") or "")


def _if_requested(metadata: Mapping[str, Any], name: str) -> str:
    token = _annotation(metadata, name)
    return token if token and token == requested_at(metadata) else ""
