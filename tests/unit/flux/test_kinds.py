"""What is Flux's, and what its labels and annotations mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clusterstack.flux.annotations import (
    decrypt_disabled,
    drift_disabled,
    force_at,
    force_enabled,
    prune_disabled,
    reconcile_disabled,
    requested_at,
    reset_at,
    ssa_mode,
    substitute_disabled,
)
from clusterstack.flux.kinds import is_component, split


def thing(api_version: str, kind: str, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", **metadata}}


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
        ("helm.toolkit.fluxcd.io/v2beta2", "HelmRelease"),
        ("source.toolkit.fluxcd.io/v1", "HelmRepository"),
        ("source.toolkit.fluxcd.io/v1beta2", "OCIRepository"),
        ("source.toolkit.fluxcd.io/v1", "GitRepository"),
        ("source.toolkit.fluxcd.io/v1", "HelmChart"),
        ("source.toolkit.fluxcd.io/v1", "Bucket"),
        ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
        ("notification.toolkit.fluxcd.io/v1beta3", "Alert"),
    ],
)
def test_flux_kinds_are_never_applied(api_version: str, kind: str) -> None:
    flux, plain = thing(api_version, kind), thing("v1", "ConfigMap")
    parts = split([plain, flux])
    assert parts.flux == (flux,)
    assert parts.plain == (plain,)


def test_a_crd_of_flux_is_applied_like_any_other() -> None:
    crd = thing("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    assert split([crd]).plain == (crd,)


def test_flux_itself_is_told_by_its_label() -> None:
    assert is_component(thing("apps/v1", "Deployment", labels={"app.kubernetes.io/part-of": "flux"}))
    assert not is_component(thing("apps/v1", "Deployment", labels={"app.kubernetes.io/part-of": "argo"}))
    assert not is_component({"apiVersion": "v1", "kind": "X"})


@pytest.mark.parametrize(
    ("question", "key", "value"),
    [
        (prune_disabled, "kustomize.toolkit.fluxcd.io/prune", "disabled"),
        (reconcile_disabled, "kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
        (force_enabled, "kustomize.toolkit.fluxcd.io/force", "enabled"),
        (substitute_disabled, "kustomize.toolkit.fluxcd.io/substitute", "disabled"),
        (decrypt_disabled, "kustomize.toolkit.fluxcd.io/decrypt", "disabled"),
        (drift_disabled, "helm.toolkit.fluxcd.io/driftDetection", "disabled"),
    ],
)
@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_a_switch_is_read_from_labels_and_annotations_in_any_case(
    question: Callable[[dict[str, Any]], bool], key: str, value: str, place: str
) -> None:
    assert question(thing("v1", "X", **{place: {key: value.title()}}))
    assert not question(thing("v1", "X", **{place: {key: "other"}}))
    assert not question(thing("v1", "X"))


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("merge", "Merge"),
        ("IfNotPresent", "IfNotPresent"),
        ("IGNORE", "Ignore"),
        ("Override", "Override"),
        ("x", "Override"),
    ],
)
def test_the_way_of_applying_is_read(value: str, mode: str) -> None:
    assert ssa_mode(thing("v1", "X", annotations={"kustomize.toolkit.fluxcd.io/ssa": value})) == mode


def test_forcing_counts_only_with_its_request() -> None:
    prefix = "reconcile.fluxcd.io/"
    asked = {"annotations": {f"{prefix}requestedAt": "1", f"{prefix}forceAt": "1", f"{prefix}resetAt": "0"}}
    assert (requested_at(asked), force_at(asked), reset_at(asked)) == ("1", "1", "")
    assert force_at({}) == ""
