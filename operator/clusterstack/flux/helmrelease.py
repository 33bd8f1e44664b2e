"""A HelmRelease's spec as a release; defaults are helm-controller's, except where noted."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from clusterstack.core.objects import ObjectRef
from clusterstack.flux.annotations import HELM_PREFIX
from clusterstack.flux.fields import Fields
from clusterstack.helm.spec import (
    DEFAULT_MAX_HISTORY,
    DEFAULT_TIMEOUT,
    ActionSpec,
    ChartSource,
    CrdsPolicy,
    ReleaseSpec,
    TestSpec,
    UninstallSpec,
    ValuesReference,
    short_release_name,
)

_CRDS = MappingProxyType({policy.value: policy for policy in CrdsPolicy})
_DRIFT: MappingProxyType[str, Literal["", "Correct", "Report", "Ignore"]] = MappingProxyType(
    {"": "", "enabled": "Correct", "warn": "Report", "disabled": "Ignore"}
)
_POST_RENDER: MappingProxyType[str, Literal["combined", "nohooks", "separate"]] = MappingProxyType(
    {"combined": "combined", "nohooks": "nohooks", "separate": "separate"}
)
_REMEDIATION: MappingProxyType[str, Literal["rollback", "uninstall"]] = MappingProxyType(
    {"rollback": "rollback", "uninstall": "uninstall"}
)
_PROPAGATION: MappingProxyType[str, Literal["Background", "Foreground", "Orphan"]] = MappingProxyType(
    {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}
)


def release_of(layer: str, origin: ObjectRef, spec: Fields, chart: ChartSource) -> ReleaseSpec:
    """The release that a HelmRelease declares. Raises SpecError naming the field that is wrong."""
    target = spec.text("targetNamespace")
    timeout = spec.seconds("timeout", DEFAULT_TIMEOUT)
    install, drift, common = spec.map("install"), spec.map("driftDetection"), spec.map("commonMetadata")
    name = spec.text("releaseName") or (f"{target}-{origin.name}" if target else origin.name)
    template = spec.map("chart").map("spec")
    return ReleaseSpec(
        id=f"{origin.namespace}/{origin.name}",
        layer=layer,
        origin=origin,
        release_name=short_release_name(name),
        namespace=target or origin.namespace,
        storage_namespace=spec.text("storageNamespace") or origin.namespace,
        chart=chart,
        values=spec.map("values").plain(),
        values_from=values_from(spec, origin.namespace),
        values_files=template.texts("valuesFiles"),
        ignore_missing_values_files=template.flag("ignoreMissingValuesFiles"),
        depends_on=depends_on(spec, origin.namespace),
        timeout=timeout,
        install=_install(install, timeout),
        upgrade=_upgrade(spec.map("upgrade"), timeout),
        uninstall=_uninstall(spec.map("uninstall"), timeout),
        test=_test(spec.map("test"), timeout),
        # Flux creates the namespace only where it is not the HelmRelease's own, which must exist already
        create_namespace=bool(target) and install.flag("createNamespace"),
        max_history=spec.number("maxHistory", DEFAULT_MAX_HISTORY),
        suspend=spec.flag("suspend"),
        post_renderers=post_renderers(spec),
        post_render_strategy=spec.choice("postRenderStrategy", _POST_RENDER, "combined"),
        # Flux's origin labels come last, over the common ones
        common_labels={
            **_texts(common.map("labels")),
            f"{HELM_PREFIX}/name": origin.name,
            f"{HELM_PREFIX}/namespace": origin.namespace,
        },
        common_annotations=_texts(common.map("annotations")),
        drift=drift.choice("mode", _DRIFT, ""),
        drift_ignore=tuple(rule.plain() for rule in drift.maps("ignore")),
        health_expressions=tuple(rule.plain() for rule in spec.maps("healthCheckExprs")),
        service_account=spec.text("serviceAccountName"),
        interval=spec.seconds("interval", 600.0),
    )


def values_from(spec: Fields, namespace: str) -> tuple[ValuesReference, ...]:
    """References to values; they live in the namespace of what declares the release."""
    return tuple(
        ValuesReference(
            kind=reference.required("kind"),
            namespace=namespace,
            name=reference.required("name"),
            key=reference.text("valuesKey") or "values.yaml",
            target_path=reference.text("targetPath"),
            optional=reference.flag("optional"),
            literal=reference.flag("literal"),
        )
        for reference in spec.maps("valuesFrom")
    )


def depends_on(spec: Fields, namespace: str) -> tuple[str, ...]:
    """The ids of the releases it waits for, each once."""
    entries = spec.maps("dependsOn")
    return tuple(dict.fromkeys(f"{entry.text('namespace') or namespace}/{entry.required('name')}" for entry in entries))


def post_renderers(spec: Fields) -> tuple[dict[str, object], ...]:
    """The kustomizations that a chart's output goes through, in order."""
    return tuple(
        renderer.map("kustomize").plain() for renderer in spec.maps("postRenderers") if renderer.has("kustomize")
    )


def _action(action: Fields, timeout: float) -> ActionSpec:
    """What install and upgrade have in common."""
    strategy, remediation = action.map("strategy"), action.map("remediation")
    return ActionSpec(
        timeout=action.seconds("timeout", timeout),
        # helm-controller's code creates missing CRDs on upgrade too, whatever its reference says; existing ones stay
        crds=action.choice("crds", _CRDS, CrdsPolicy.CREATE.value),
        disable_wait=action.flag("disableWait"),
        disable_wait_for_jobs=action.flag("disableWaitForJobs"),
        disable_hooks=action.flag("disableHooks"),
        disable_schema_validation=action.flag("disableSchemaValidation"),
        take_ownership=not action.flag("disableTakeOwnership"),
        retries=remediation.number("retries", 0),
        retry_forever=strategy.text("name") == "RetryOnFailure",
        retry_interval=strategy.seconds("retryInterval", 300.0),
        remediation=remediation.choice("strategy", _REMEDIATION, "rollback") if remediation.data else "",
        force=action.flag("force"),
        cleanup_on_fail=action.flag("cleanupOnFail"),
        replace=action.flag("replace"),
    )


def _install(install: Fields, timeout: float) -> ActionSpec:
    """An install; the old `skipCRDs` means the same as `crds: Skip`, and remediation can only uninstall."""
    data = dict(install.data)
    if install.flag("skipCRDs") and not install.has("crds"):
        data["crds"] = CrdsPolicy.SKIP.value
    if install.has("remediation"):
        data["remediation"] = {**install.map("remediation").data, "strategy": "uninstall"}
    return _action(Fields(install.where, install.path, data), timeout)


def _upgrade(upgrade: Fields, timeout: float) -> ActionSpec:
    return _action(upgrade, timeout)


def _uninstall(uninstall: Fields, timeout: float) -> UninstallSpec:
    return UninstallSpec(
        timeout=uninstall.seconds("timeout", timeout),
        keep_history=uninstall.flag("keepHistory"),
        disable_wait=uninstall.flag("disableWait"),
        disable_hooks=uninstall.flag("disableHooks"),
        propagation=uninstall.choice("deletionPropagation", _PROPAGATION, "background"),
    )


def _test(test: Fields, timeout: float) -> TestSpec:
    return TestSpec(
        enable=test.flag("enable"),
        timeout=test.seconds("timeout", timeout),
        ignore_failures=test.flag("ignoreFailures"),
        filters=tuple((entry.required("name"), entry.flag("exclude")) for entry in test.maps("filters")),
    )


def _texts(fields: Fields) -> dict[str, str]:
    return {key: fields.text(key) for key in fields.data}
