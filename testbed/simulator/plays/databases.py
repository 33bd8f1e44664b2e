"""Percona's PostgreSQL and Dragonfly."""

from __future__ import annotations

import hashlib

from testbed.simulator import builtin, certs
from testbed.simulator.conditions import Status
from testbed.simulator.objects import Obj, get
from testbed.simulator.operators import DRAGONFLY, PERCONA_PG
from testbed.simulator.play import Play, steps
from testbed.simulator.scene import Scene


async def _postgres(scene: Scene) -> None:
    """Secrets and Services come first, as with the real operator; pods, and with them `ready`, last."""
    if get(scene.obj, "status", "state") != "ready":
        await scene.progress({"state": "initializing", "host": ""})
        await scene.wait(0.3)
        await _children(scene)
        await scene.progress(_state(scene.obj, "initializing", ready=0))
        await scene.wait(0.7)
    await _children(scene)
    await scene.healthy({**_state(scene.obj, "ready", ready=_size(scene.obj)), "observedGeneration": scene.generation})


def _size(obj: Obj) -> int:
    return sum(int(entry.get("replicas", 1)) for entry in get(obj, "spec", "instances") or ())


def _state(obj: Obj, state: str, *, ready: int) -> Status:
    name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
    bouncers = int(get(obj, "spec", "proxy", "pgBouncer", "replicas") or 0)
    return {
        "state": state,
        "host": f"{name}-pgbouncer.{namespace}.svc",
        "postgres": {"size": _size(obj), "ready": ready, "version": get(obj, "spec", "postgresVersion") or 17},
        "pgbouncer": {"size": bouncers, "ready": bouncers if ready else 0},
    }


async def _children(scene: Scene) -> None:
    pair = certs.make(scene.name, [f"{scene.name}-primary.{scene.namespace}.svc"])
    authority = {"root.crt": pair.ca.decode(), "root.key": pair.key.decode()}
    await _secret(scene, f"{scene.name}-cluster-ca-cert", authority)
    await _secret(
        scene, f"{scene.name}-cluster-cert", {"ca.crt": pair.ca.decode(), "tls.crt": pair.certificate.decode()}
    )
    for user in _users(scene):
        await _secret(scene, f"{scene.name}-pguser-{user['name']}", _login(scene, user))
    selector = {"postgres-operator.crunchydata.com/cluster": scene.name}
    for suffix in ("ha", "replicas", "pgbouncer"):
        await scene.service(f"{scene.name}-{suffix}", 5432, selector=selector)
    await scene.service(f"{scene.name}-primary", 5432, clusterIP="None")


def _users(scene: Scene) -> list[Obj]:
    """Those of the spec, and one called as the namespace: static charts cannot name the user after the application."""
    named: list[Obj] = scene.spec.get("users") or []
    return [*named, {"name": scene.namespace}] if all(user["name"] != scene.namespace for user in named) else named


def _login(scene: Scene, user: Obj) -> dict[str, str]:
    password = hashlib.sha256(f"{scene.stage.dice.seed}/{scene.namespace}/{user['name']}".encode()).hexdigest()[:24]
    database = (user.get("databases") or [user["name"]])[0]
    host = f"{scene.name}-primary.{scene.namespace}.svc"
    return {
        "user": user["name"],
        "password": password,
        "dbname": database,
        "host": host,
        "port": "5432",
        "pgbouncer-host": f"{scene.name}-pgbouncer.{scene.namespace}.svc",
        "uri": f"postgresql://{user['name']}:{password}@{host}:5432/{database}",
    }


async def _secret(scene: Scene, name: str, content: dict[str, str]) -> None:
    await scene.ensure(
        builtin.SECRETS, {"metadata": {"namespace": scene.namespace, "name": name}, "stringData": content}
    )


async def _dragonfly_service(scene: Scene) -> None:
    await scene.service(scene.name, 6379, selector={"app": scene.name})


def _phase(name: str) -> Status:
    return {"phase": name, "isRollingUpdate": False}


PLAYS = (
    Play("perconapgclusters.pgv2.percona.com", PERCONA_PG, _postgres, failure={"state": "initializing"}),
    Play(
        "dragonflies.dragonflydb.io",
        DRAGONFLY,
        steps(_phase("resources-created"), _phase("configuring-replication"), _phase("ready"), then=_dragonfly_service),
        failure=_phase("configuring-replication"),
    ),
)
