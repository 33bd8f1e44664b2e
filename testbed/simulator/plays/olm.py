"""OLM: a Subscription becomes an InstallPlan, then CRDs, then a CSV with its Deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from testbed.simulator import builtin
from testbed.simulator.conditions import Status, condition
from testbed.simulator.objects import Obj, get, now
from testbed.simulator.operators import OLM, is_available
from testbed.simulator.play import Play, steps
from testbed.simulator.scene import Scene
from testbed.simulator.store import Store

SUBSCRIPTIONS = "subscriptions.operators.coreos.com"
INSTALL_PLANS = "installplans.operators.coreos.com"
CSVS = "clusterserviceversions.operators.coreos.com"
CATALOGS = "catalogsources.operators.coreos.com"

_DEPLOYMENTS = {"kaoto-operator": "kaoto-operator-controller-manager"}
_VERSION = "1.0.0"


async def _subscription(scene: Scene) -> None:
    """Resolves against the catalogue, then follows its InstallPlan until the CSV object exists: its state is as good
    as it gets then, but it is healthy only when the CSV has succeeded."""
    source = scene.spec["sourceNamespace"], scene.spec["source"]
    plan, csv = f"install-{scene.name}"[:63], f"{scene.spec['name']}.v{_VERSION}"
    where = scene.namespace, csv
    what = ("ClusterServiceVersion", *where)
    if get(scene.obj, "status", "installedCSV") != csv:
        await scene.until(
            (CATALOGS,), lambda: _serves(scene.store.get(CATALOGS, *source)), what=("CatalogSource", *source)
        )
        await scene.progress(_pending(scene, "", ""))
        await scene.wait(0.3)
        await _install_plan(scene, plan, csv)
        await scene.progress(_pending(scene, plan, csv))
        await scene.until((CSVS,), lambda: scene.store.get(CSVS, *where), what=what, begun=True)
    known = {**_pending(scene, plan, csv), "state": "AtLatestKnown", "installedCSV": csv}
    known["conditions"] = [_catalogs_healthy()]
    if scene.mode not in ("stuck", "failed"):
        await scene.progress(known)
    await scene.healthy(known, proof=await scene.until((CSVS,), lambda: _succeeded(scene.store, *where), what=what))


def _succeeded(store: Store, namespace: str, csv: str) -> Obj | None:
    found = store.get(CSVS, namespace, csv)
    return found if get(found, "status", "phase") == "Succeeded" else None


def _pending(scene: Scene, plan: str, csv: str) -> Status:
    waits = condition("InstallPlanPending", True, "Installing", "") if csv else None
    status: Status = {
        "conditions": [entry for entry in (_catalogs_healthy(), waits) if entry],
        "lastUpdated": get(scene.obj, "status", "lastUpdated") or now(),
    }
    if not csv:
        return status
    reference = {"apiVersion": "operators.coreos.com/v1alpha1", "kind": "InstallPlan", "name": plan}
    return {
        **status,
        "state": "UpgradePending",
        "currentCSV": csv,
        "installPlanGeneration": 1,
        "installPlanRef": {**reference, "namespace": scene.namespace},
    }


def _catalogs_healthy() -> Status:
    message = "all available catalogsources are healthy"
    return condition("CatalogSourcesUnhealthy", False, "AllCatalogSourcesHealthy", message)


def _serves(catalog: Obj | None) -> bool:
    return bool(get(catalog, "status", "connectionState", "lastObservedState") == "READY")


async def _install_plan(scene: Scene, plan: str, csv: str) -> None:
    approval = scene.spec.get("installPlanApproval", "Automatic")
    body: Obj = {
        "metadata": {
            "namespace": scene.namespace,
            "name": plan,
            "annotations": {"simulator/package": scene.spec["name"]},
        },
        "spec": {
            "approval": approval,
            "approved": approval == "Automatic",
            "clusterServiceVersionNames": [csv],
            "generation": 1,
        },
    }
    resource = scene.stage.resource(INSTALL_PLANS)
    if resource is not None:
        await scene.ensure(resource, body)


async def _plan(scene: Scene) -> None:
    """Installs the bundle's CRDs, then its CSV."""
    if not scene.spec.get("approved"):
        await scene.progress(_phase("RequiresApproval"))
        return
    if get(scene.obj, "status", "phase") != "Complete":
        await scene.progress(_phase("Planning"))
        await scene.wait(0.3)
        await scene.progress(_phase("Installing"))
        package = (scene.obj["metadata"].get("annotations") or {}).get("simulator/package", "")
        for crd in _bundle(scene.stage.olm_crds, package):
            await scene.ensure(builtin.CRDS, crd, owned=False)
        await scene.wait(0.7)
        await _create_csv(scene, package)
    await scene.healthy(_phase("Complete"))


def _phase(name: str) -> Status:
    return {"phase": name, "catalogSources": []}


@cache
def _files(folder: Path) -> tuple[tuple[str, tuple[Obj, ...]], ...]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(
        (path.name, tuple(doc for doc in yaml.load_all(path.read_text(), Loader=loader) if doc))
        for path in sorted(folder.glob("*.yaml"))
    )


def _bundle(folder: Path | None, package: str) -> list[Obj]:
    """The CRDs whose file is called after the first word of the package."""
    word = re.split(r"[-.]", package)[0]
    files = _files(folder) if folder else ()
    return [crd for name, crds in files if word and name.startswith(word) for crd in crds]


async def _create_csv(scene: Scene, package: str) -> None:
    resource = scene.stage.resource(CSVS)
    for name in scene.spec.get("clusterServiceVersionNames", ()):
        deployment = _DEPLOYMENTS.get(package, package)
        body: Obj = {
            "metadata": {"namespace": scene.namespace, "name": name},
            "spec": {
                "displayName": package,
                "version": _VERSION,
                "installModes": [{"type": "OwnNamespace", "supported": True}],
                "install": {
                    "strategy": "deployment",
                    "spec": {"deployments": [{"name": deployment, "spec": _deployment_spec(deployment)}]},
                },
            },
        }
        if resource is not None:
            await scene.ensure(resource, body, owned=False)


def _deployment_spec(name: str) -> Obj:
    labels = {"app.kubernetes.io/name": name}
    containers = [{"name": "operator", "image": f"registry.invalid/{name}:{_VERSION}"}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    return {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}


async def _csv(scene: Scene) -> None:
    """Runs the install strategy's Deployments; Succeeded once all of them are Available."""
    deployments = get(scene.spec, "install", "spec", "deployments") or []
    if get(scene.obj, "status", "phase") != "Succeeded":
        await scene.progress(_csv_phase(scene, "Pending", "RequirementsUnknown"))
        await scene.wait(0.4)
        await scene.progress(_csv_phase(scene, "InstallReady", "AllRequirementsMet"))
        await scene.wait(0.2)
        for entry in deployments:
            body = {"metadata": {"namespace": scene.namespace, "name": entry["name"]}, "spec": entry["spec"]}
            await scene.ensure(builtin.DEPLOYMENTS, body)
        await scene.progress(_csv_phase(scene, "Installing", "InstallSucceeded"))
        await scene.wait(0.4)
    for entry in deployments:
        await _available(scene, entry["name"])
    await scene.healthy(_csv_phase(scene, "Succeeded", "InstallSucceeded"))


async def _available(scene: Scene, name: str) -> None:
    where = scene.namespace, name

    def question() -> bool:
        found = scene.store.get(builtin.DEPLOYMENTS.name, *where)
        return found is not None and is_available(found)

    await scene.until((builtin.DEPLOYMENTS.name,), question, what=("Deployment", *where))


def _csv_phase(scene: Scene, phase: str, reason: str) -> Status:
    current: Mapping[str, Any] = scene.obj.get("status") or {}
    if current.get("phase") == phase:
        return {"phase": phase, "reason": current.get("reason", reason)}
    entry = {"phase": phase, "reason": reason, "lastTransitionTime": now()}
    return {
        "phase": phase,
        "reason": reason,
        "lastUpdateTime": now(),
        "lastTransitionTime": now(),
        "conditions": [entry],
    }


def _connection(state: str) -> Status:
    return {"connectionState": {"lastObservedState": state}}


def _targets(obj: Obj) -> Status:
    namespaces = get(obj, "spec", "targetNamespaces") or [""]
    return {"namespaces": namespaces, "lastUpdated": get(obj, "status", "lastUpdated") or now()}


_csv_failed = {"phase": "Failed", "reason": "ComponentUnhealthy", "message": "played broken"}
_no_copies = {"conditions": [condition("DisabledCopiedCSVs", False, "CopiedCSVsEnabled", "")]}

PLAYS = (
    Play(
        SUBSCRIPTIONS, OLM, _subscription, failure={"conditions": [condition("ResolutionFailed", True, "Broken", "")]}
    ),
    Play(INSTALL_PLANS, OLM, _plan, failure={"phase": "Failed", "catalogSources": [], "message": "played broken"}),
    Play(CSVS, OLM, _csv, failure=_csv_failed),
    Play(
        CATALOGS,
        OLM,
        steps(_connection("CONNECTING"), _connection("READY")),
        failure=_connection("TRANSIENT_FAILURE"),
    ),
    Play("operatorgroups.operators.coreos.com", OLM, steps(_targets)),
    Play("olmconfigs.operators.coreos.com", OLM, steps(_no_copies)),
)
