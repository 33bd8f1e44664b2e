"""Keycloak and the import of its realms."""

from __future__ import annotations

from testbed.simulator.conditions import Status, condition
from testbed.simulator.objects import get
from testbed.simulator.operators import KEYCLOAK
from testbed.simulator.play import Play
from testbed.simulator.scene import Scene, is_true

KEYCLOAKS = "keycloaks.k8s.keycloak.org"


async def _keycloak(scene: Scene) -> None:
    """Its pods start once the database's Secret is there."""
    if not is_true(scene.obj, "Ready"):
        await scene.progress(_status(scene, ready=False, message="Waiting for more replicas"))
        for reference in (get(scene.spec, "db", "usernameSecret"), get(scene.spec, "db", "passwordSecret")):
            if reference:
                await scene.secret(scene.namespace, reference["name"])
        await scene.wait()
    await scene.service(f"{scene.name}-service", 8080, 9000, selector={"app": "keycloak"})
    await scene.healthy(_status(scene, ready=True, message=""))


def _status(scene: Scene, *, ready: bool, message: str) -> Status:
    observed = scene.generation
    return {
        "observedGeneration": observed,
        "instances": int(scene.spec.get("instances", 1)),
        "conditions": [
            {**_plain("Ready", status=ready, message=message), "observedGeneration": observed},
            {**_plain("HasErrors", status=False), "observedGeneration": observed},
            {**_plain("RollingUpdate", status=False), "observedGeneration": observed},
        ],
    }


async def _realm(scene: Scene) -> None:
    """HasErrors for as long as Keycloak is not up, then a Job that imports."""
    keycloak = scene.namespace, str(scene.spec["keycloakCRName"])
    if not is_true(scene.obj, "Done"):
        if not is_true(scene.store.get(KEYCLOAKS, *keycloak), "Ready"):
            await scene.progress(_import(errors="Deployment not yet ready"))
        await scene.until(
            (KEYCLOAKS,), lambda: is_true(scene.store.get(KEYCLOAKS, *keycloak), "Ready"), what=("Keycloak", *keycloak)
        )
        for placeholder in (scene.spec.get("placeholders") or {}).values():
            await scene.secret(scene.namespace, placeholder["secret"]["name"])
        await scene.progress(_import(started=True))
        await scene.wait()
    await scene.healthy(_import(done=True))


def _import(*, done: bool = False, started: bool = False, errors: str = "") -> Status:
    return {
        "conditions": [
            _plain("Done", status=done),
            _plain("Started", status=started),
            _plain("HasErrors", status=bool(errors), message=errors),
        ]
    }


def _plain(kind: str, *, status: bool, message: str = "") -> Status:
    return {"type": kind, "status": "True" if status else "False", "message": message}


PLAYS = (
    Play(
        KEYCLOAKS,
        KEYCLOAK,
        _keycloak,
        failure={"conditions": [condition("Ready", None), condition("HasErrors", True, message="played broken")]},
    ),
    Play("keycloakrealmimports.k8s.keycloak.org", KEYCLOAK, _realm, failure=_import(errors="Import Job failed")),
)
