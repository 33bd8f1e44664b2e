"""Longhorn's StorageClass, and what the containers of some Jobs do: at once, as they are gone when their Job is."""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from testbed.simulator import builtin, certs
from testbed.simulator.objects import Obj, get
from testbed.simulator.operators import LONGHORN
from testbed.simulator.play import Play
from testbed.simulator.scene import Scene

PROVISIONER = "kubernetes.io/host-path"
"""The controller manager's own provisioner stands in for the CSI driver: it binds claims and needs no node."""


async def _storage_class(scene: Scene) -> None:
    """The driver makes the class that the chart ships inside a ConfigMap."""
    shipped = await scene.stage.client.find(builtin.CONFIG_MAPS, scene.namespace, "longhorn-storageclass")
    text = get(shipped, "data", "storageclass.yaml") or "{metadata: {name: longhorn}}"
    manifest: Obj = yaml.safe_load(text)
    await scene.wait()
    body = {
        "metadata": manifest["metadata"],
        "provisioner": PROVISIONER,
        "reclaimPolicy": manifest.get("reclaimPolicy", "Delete"),
        "volumeBindingMode": manifest.get("volumeBindingMode", "Immediate"),
        "allowVolumeExpansion": False,  # that provisioner cannot
    }
    await scene.ensure(builtin.STORAGE_CLASSES, body, owned=False)


async def _redis_secret(scene: Scene) -> None:
    body = {"metadata": {"namespace": scene.namespace, "name": "argocd-redis"}, "stringData": {"auth": "simulated"}}
    await scene.ensure(builtin.SECRETS, body, owned=False)


async def _certgen(scene: Scene) -> None:
    """ingress-nginx's certgen: `create` makes a Secret; `patch` puts its authority into a webhook configuration."""
    arguments = get(scene.spec, "template", "spec", "containers")[0].get("args") or []
    options = {match[1]: match[2] for one in arguments if (match := re.match(r"--([\w-]+)=(.*)", one))}
    namespace, secret = options["namespace"], options["secret-name"]
    if "create" in arguments:
        pair = certs.make(secret, options["host"].split(","))
        data = {"ca": pair.ca, "cert": pair.certificate, "key": pair.key}
        encoded = {name: certs.encode(value) for name, value in data.items()}
        body = {"metadata": {"namespace": namespace, "name": secret}, "data": encoded}
        await scene.ensure(builtin.SECRETS, body, owned=False)
        return
    content = await scene.secret(namespace, secret)
    resource, name = builtin.MUTATING, options["webhook-name"]
    found = await scene.stage.client.find(resource, "", name)
    patch = [
        {"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": content["data"]["ca"]}
        for number, _ in enumerate((found or {}).get("webhooks") or ())
    ]
    if patch:
        await scene.stage.client.json_patch(resource, "", name, patch)


def _called(pattern: str) -> Callable[[Obj], bool]:
    return lambda obj: re.search(pattern, obj["metadata"]["name"]) is not None


PLAYS = (
    Play(builtin.DEPLOYMENTS.name, LONGHORN, _storage_class, applies=_called("^longhorn-driver-deployer$"), quiet=True),
    Play(builtin.JOBS.name, None, _redis_secret, applies=_called("redis-secret-init$"), quiet=True),
    Play(builtin.JOBS.name, None, _certgen, applies=_called(r"admission-certgen(-patch)?$"), quiet=True),
)
