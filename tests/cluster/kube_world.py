"""What the tests of clusterstack.kube have in common: a client, a bus, discovery and an observer on a control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.kube.auth import Connection, connect
from clusterstack.kube.client import KubeClient
from clusterstack.kube.discovery import Discovery
from clusterstack.kube.facts import Bus, object_key
from clusterstack.kube.live import Live
from clusterstack.kube.observer import Handle, Observer
from clusterstack.kube.resource import CUSTOM_RESOURCE_DEFINITION, NAMESPACE, Resource

MANAGED = {"clusterstack.dev/stack": "home"}
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)


@dataclass(frozen=True)
class World:
    connection: Connection
    client: KubeClient
    bus: Bus
    discovery: Discovery
    observer: Observer

    async def until(self, condition: Callable[[], bool], *keys: Hashable) -> None:
        """Waits for a condition that changes only together with one of the keys."""
        while True:
            seen = self.bus.now
            if condition():
                return
            await self.bus.wait(keys, seen)

    async def synced(self, handle: Handle) -> Handle:
        await self.until(lambda: self.observer.synced(handle), handle.key)
        return handle

    async def seen(self, ref: ObjectRef, condition: Callable[[Live | None], bool]) -> Live | None:
        await self.until(lambda: condition(self.observer.get(ref)), object_key(ref))
        return self.observer.get(ref)

    async def until_gone(self, ref: ObjectRef) -> None:
        """Waits until the cache has dropped what nobody watches any more, which is told to nobody."""
        while self.observer.get(ref) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def namespace(self, name: str) -> str:
        await self.client.create(NAMESPACE, {"metadata": {"name": name}}, manager="test")
        return name


@asynccontextmanager
async def world(kubeconfig: Path, **options: Any) -> AsyncIterator[World]:
    async with await connect(kubeconfig=str(kubeconfig)) as connection:
        client, bus = KubeClient(connection), Bus()
        async with Discovery(client, bus) as discovery, Observer(client, discovery, bus, **options) as observer:
            await discovery.refresh()
            yield World(connection, client, bus, discovery, observer)


def config_map(namespace: str, name: str = "a", *, managed: bool = True, **data: str) -> Manifest:
    metadata = {"namespace": namespace, "name": name, "labels": MANAGED if managed else {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def ref_of_config_map(namespace: str, name: str = "a") -> ObjectRef:
    return ObjectRef("", "ConfigMap", namespace, name)


def crd(kind: str, group: str, *versions: str) -> Manifest:
    """A CustomResourceDefinition; the first version is the stored one."""
    plural = kind.lower() + "s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "labels": MANAGED},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [
                {"name": version, "served": True, "storage": version == versions[0], "schema": schema}
                for version in versions
            ],
        },
    }
