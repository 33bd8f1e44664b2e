"""External Secrets: stores turn Ready, ExternalSecrets make Secrets with the keys they ask for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from testbed.simulator import builtin, certs
from testbed.simulator.conditions import Status, condition, ready
from testbed.simulator.objects import Obj, get, now
from testbed.simulator.operators import EXTERNAL_SECRETS
from testbed.simulator.play import Play, steps
from testbed.simulator.scene import Scene, is_true
from testbed.simulator.templates import render

STORES = "secretstores.external-secrets.io"
CLUSTER_STORES = "clustersecretstores.external-secrets.io"


async def _external_secret(scene: Scene) -> None:
    reference = scene.spec.get("secretStoreRef") or {"name": ""}
    target = get(scene.spec, "target", "name") or scene.name
    resource = CLUSTER_STORES if reference.get("kind") == "ClusterSecretStore" else STORES
    namespace = "" if resource == CLUSTER_STORES else scene.namespace

    def store_ready() -> bool:
        return is_true(scene.store.get(resource, namespace, reference["name"]), "Ready")

    first = not is_true(scene.obj, "Ready")
    while True:
        if reference["name"] and not store_ready():
            message = f"error processing spec.data: SecretStore {reference['name']!r} is not ready"
            await scene.progress(ready(False, "SecretSyncedError", message))
            kind = reference.get("kind", "SecretStore")
            await scene.until((resource,), store_ready, what=(kind, namespace, reference["name"]))
        if first or not _is_synced(scene):
            await scene.wait()
        await _sync(scene, target)
        await scene.healthy(_synced(scene, target))
        first = False
        await scene.store.until((builtin.SECRETS.name,), lambda: _secret(scene, target) is None)


async def _sync(scene: Scene, target: str) -> None:
    data = {name: certs.encode(value) for name, value in _content(scene).items()}
    template = get(scene.spec, "target", "template") or {}
    meta = {**(template.get("metadata") or {}), "namespace": scene.namespace, "name": target}
    body: Obj = {"metadata": meta, "type": template.get("type", "Opaque"), "data": data}
    policy = get(scene.spec, "target", "creationPolicy") or "Owner"
    existing = _secret(scene, target)
    if existing is None and policy != "Merge":
        await scene.ensure(builtin.SECRETS, body, owned=policy == "Owner")
        await scene.store.until((builtin.SECRETS.name,), lambda: _secret(scene, target) is not None)
    elif existing is not None and any(existing.get("data", {}).get(name) != value for name, value in data.items()):
        await scene.stage.client.merge(builtin.SECRETS, scene.namespace, target, {"data": data})


def _content(scene: Scene) -> dict[str, str]:
    """The target's keys: one per entry of spec.data, or what the template makes of them."""
    seed = scene.stage.dice.seed
    fetched = {entry["secretKey"]: _value(seed, entry["remoteRef"]) for entry in scene.spec.get("data") or ()}
    for entry in scene.spec.get("dataFrom") or ():
        name = get(entry, "extract", "key") or "value"
        fetched[re.sub(r"[^\w.-]", "_", name)] = _value(seed, {"key": name})
    template = get(scene.spec, "target", "template", "data")
    if not template:
        return fetched
    made = {name: render(text, fetched) for name, text in template.items()}
    merged = get(scene.spec, "target", "template", "mergePolicy") == "Merge"
    return {**fetched, **made} if merged else made


def _value(seed: int, reference: Mapping[str, Any]) -> str:
    # The same remote key has the same value everywhere, as in a real store.
    text = f"{seed}/{reference['key']}/{reference.get('property', '')}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _secret(scene: Scene, target: str) -> Obj | None:
    return scene.store.get(builtin.SECRETS.name, scene.namespace, target)


def _is_synced(scene: Scene) -> bool:
    return str(get(scene.obj, "status", "syncedResourceVersion") or "").startswith(f"{scene.generation}-")


def _synced(scene: Scene, target: str) -> Status:
    digest = hashlib.sha256(repr(scene.spec).encode()).hexdigest()[:16]
    time = now()
    if _is_synced(scene) and is_true(scene.obj, "Ready"):
        time = get(scene.obj, "status", "refreshTime") or time
    return {
        "conditions": [condition("Ready", True, "SecretSynced", "secret synced")],
        "refreshTime": time,
        "syncedResourceVersion": f"{scene.generation}-{digest}",
        "binding": {"name": target},
    }


_valid = {**ready(True, "Valid", "store validated"), "capabilities": "ReadWrite"}

PLAYS = (
    Play(STORES, EXTERNAL_SECRETS, steps(_valid), failure=ready(False, "InvalidProviderConfig", "unable to log in")),
    Play(
        CLUSTER_STORES,
        EXTERNAL_SECRETS,
        steps(_valid),
        failure=ready(False, "InvalidProviderConfig", "unable to log in"),
    ),
    Play(
        "externalsecrets.external-secrets.io",
        EXTERNAL_SECRETS,
        _external_secret,
        failure=ready(False, "SecretSyncedError", "could not get secret data from provider"),
    ),
)
