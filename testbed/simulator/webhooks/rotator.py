"""Plays the operators that fill their own certificate Secrets."""

from __future__ import annotations

import asyncio

from testbed.simulator import builtin, certs
from testbed.simulator.client import ApiError
from testbed.simulator.objects import Obj
from testbed.simulator.scene import Stage
from testbed.simulator.webhooks.authorities import Rotation, read
from testbed.simulator.webhooks.references import Target


class Rotator:
    """One task per Secret, started when one of its Services is first called for."""

    def __init__(self, stage: Stage, tasks: asyncio.TaskGroup) -> None:
        self._stage = stage
        self._tasks = tasks
        self._started: set[tuple[str, str]] = set()

    def want(self, target: Target, rotation: Rotation) -> None:
        key = target.namespace, rotation.secret
        if key not in self._started:
            self._started.add(key)
            self._tasks.create_task(self._keep(target.namespace, rotation))

    def is_up(self, rotation: Rotation) -> bool:
        return self._stage.ungated or rotation.operator.is_up(self._stage.store)

    async def _keep(self, namespace: str, rotation: Rotation) -> None:
        store = self._stage.store
        resources = builtin.SECRETS.name, builtin.DEPLOYMENTS.name

        def is_due() -> bool:
            return self.is_up(rotation) and read(store.get(builtin.SECRETS.name, namespace, rotation.secret)) is None

        while True:
            await store.until(resources, is_due)
            await asyncio.sleep(self._stage.dice.seconds("Secret", namespace, rotation.secret))
            try:
                if is_due():
                    await self._fill(namespace, rotation)
            except ApiError:
                await asyncio.sleep(1.0)
            await asyncio.sleep(0.2)  # let the watch bring what was written

    async def _fill(self, namespace: str, rotation: Rotation) -> None:
        hosts = [host for service in rotation.services for host in certs.service_hosts(namespace, service)]
        pair = certs.make(rotation.secret, hosts)
        values = dict(zip(rotation.fields, (pair.ca, pair.certificate, pair.key), strict=True))
        data = {name: certs.encode(value) for name, value in values.items()}
        client = self._stage.client
        if self._stage.store.get(builtin.SECRETS.name, namespace, rotation.secret) is not None:
            written: Obj | None = await client.merge(builtin.SECRETS, namespace, rotation.secret, {"data": data})
        else:
            meta = {
                "namespace": namespace,
                "name": rotation.secret,
                "annotations": {"cert-manager.io/allow-direct-injection": "true"},
            }
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}
            written = await client.create(builtin.SECRETS, body)
        if written is not None:
            name = rotation.operator.deployments[0]
            up = rotation.operator.up(self._stage.store, name)
            by = {"kind": "Deployment", "namespace": namespace, "name": up["metadata"]["name"] if up else name}
            waited = self._stage.dice.seconds("Secret", namespace, rotation.secret)
            self._stage.journal.write("created", written, by=by, waited=waited)
