"""What kgateway writes on routes, policies and extensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.simulator import builtin
from testbed.simulator.conditions import Status, condition, timed
from testbed.simulator.objects import Obj, get
from testbed.simulator.operators import KGATEWAY
from testbed.simulator.play import Play
from testbed.simulator.plays.gateway import CONTROLLER, GATEWAYS, GROUP
from testbed.simulator.scene import Scene, is_true

_POLICIES = ("trafficpolicies", "httplistenerpolicies", "listenerpolicies", "backendconfigpolicies", "directresponses")
_ROUTES = ("httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes")


async def _route(scene: Scene) -> None:
    """No parents until the Gateway is accepted; unresolved for as long as a backend is missing."""
    for reference in scene.spec.get("parentRefs") or ():
        where = reference.get("namespace", scene.namespace), reference["name"]
        await scene.until((GATEWAYS,), lambda: _accepted(scene, where), what=("Gateway", *where), begun=True)  # noqa: B023
    if not all(_is_there(scene, where) for where in _backends(scene)):
        await scene.progress(_parents(scene, resolved=False))
    for where in _backends(scene):
        services = (builtin.SERVICES.name,)
        await scene.until(services, lambda: _is_there(scene, where), what=("Service", *where), begun=True)  # noqa: B023
    if not _resolved(scene):
        await scene.wait()
    await scene.healthy(_parents(scene, resolved=True))


def _accepted(scene: Scene, where: tuple[str, str]) -> bool:
    return is_true(scene.store.get(GATEWAYS, *where), "Accepted")


def _backends(scene: Scene) -> list[tuple[str, str]]:
    return [
        (backend.get("namespace", scene.namespace), backend["name"])
        for rule in scene.spec.get("rules") or ()
        for backend in rule.get("backendRefs") or ()
        if backend.get("kind", "Service") == "Service"
    ]


def _is_there(scene: Scene, where: tuple[str, str]) -> bool:
    return scene.store.get(builtin.SERVICES.name, *where) is not None


def _resolved(scene: Scene) -> bool:
    parents = get(scene.obj, "status", "parents") or []
    return bool(parents) and all(
        entry["status"] == "True" for parent in parents for entry in parent.get("conditions") or ()
    )


def _parents(scene: Scene, *, resolved: bool) -> Status:
    old = get(scene.obj, "status", "parents") or []
    return {
        "parents": [
            {
                "controllerName": CONTROLLER,
                "parentRef": reference,
                "conditions": _entries(
                    scene,
                    old[number] if number < len(old) else {},
                    condition("Accepted"),
                    condition("ResolvedRefs", resolved, "ResolvedRefs" if resolved else "BackendNotFound"),
                ),
            }
            for number, reference in enumerate(scene.spec.get("parentRefs") or ())
        ]
    }


def _entries(scene: Scene, old: Mapping[str, Any], *conditions: Status) -> list[Status]:
    observed = [{**entry, "observedGeneration": scene.generation} for entry in conditions]
    return timed(observed, old.get("conditions"))


async def _policy(scene: Scene) -> None:
    """Attached once what it targets is there."""
    targets = scene.spec.get("targetRefs") or []
    for reference in targets:
        resource = _plural_of(reference)
        where = scene.namespace, reference["name"]
        await scene.until(
            (resource,),
            lambda: scene.store.get(resource, *where),  # noqa: B023
            what=(reference["kind"], *where),
            begun=True,
        )
    if not get(scene.obj, "status", "ancestors"):
        await scene.wait()
    old = get(scene.obj, "status", "ancestors") or []
    attached = condition("Accepted", True, "Valid"), condition("Attached", True, "Attached")
    ancestors = [
        {
            "controllerName": CONTROLLER,
            "ancestorRef": {"group": GROUP, "kind": reference["kind"], "name": reference["name"]},
            "conditions": _entries(scene, old[number] if number < len(old) else {}, *attached),
        }
        for number, reference in enumerate(targets)
    ]
    await scene.healthy({"ancestors": ancestors})


def _plural_of(reference: Obj) -> str:
    return f"{reference['kind'].lower()}s.{reference.get('group', GROUP)}"


async def _extension(scene: Scene) -> None:
    if not is_true(scene.obj, "Accepted"):
        await scene.wait()
    await scene.healthy({"conditions": _entries(scene, scene.obj.get("status") or {}, condition("Accepted"))})


_POLICY_FAILED = {"ancestors": [{"controllerName": CONTROLLER, "ancestorRef": {"name": "unknown"}, "conditions": []}]}

PLAYS = (
    *(Play(f"{plural}.{GROUP}", KGATEWAY, _route, failure={"parents": []}) for plural in _ROUTES),
    *(Play(f"{plural}.gateway.kgateway.dev", KGATEWAY, _policy, failure=_POLICY_FAILED) for plural in _POLICIES),
    Play(
        "gatewayextensions.gateway.kgateway.dev",
        KGATEWAY,
        _extension,
        failure={"conditions": [condition("Accepted", False, "Invalid", "played broken")]},
    ),
)
