"""Puts authorities into caBundles: as cert-manager's cainjector, or as the operator that rotates its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.simulator import builtin
from testbed.simulator.catalogue import Catalogue
from testbed.simulator.certs import KeyPair, encode
from testbed.simulator.client import ApiError
from testbed.simulator.objects import Obj, Resource
from testbed.simulator.operators import CA_INJECTOR
from testbed.simulator.scene import Stage
from testbed.simulator.webhooks.authorities import certificate_secret, is_foreign, read, rotation_of
from testbed.simulator.webhooks.references import Reference, Target

_CHANGES = ["CREATE", "UPDATE"]


def _rule(groups: list[str], versions: list[str], resources: list[str]) -> list[Obj]:
    return [
        {"apiGroups": groups, "apiVersions": versions, "operations": _CHANGES, "resources": resources, "scope": "*"}
    ]


_KAFKA = _rule(["messaging.knative.dev", "sources.knative.dev"], ["v1beta1"], ["kafkachannels", "kafkasources"])
# Knative's webhooks write their own rules: their manifests have none.
_RULES: Mapping[str, list[Obj]] = {
    "config.webhook.gateway-api.networking.internal.knative.dev": _rule([""], ["v1"], ["configmaps/*"]),
    "defaulting.webhook.kafka.eventing.knative.dev": _KAFKA,
    "validation.webhook.kafka.eventing.knative.dev": _KAFKA,
}


class Injector:
    def __init__(self, stage: Stage, catalogue: Catalogue) -> None:
        self._stage = stage
        self._catalogue = catalogue

    async def inject(self, calls: list[Reference], invented: Mapping[Target, KeyPair]) -> None:
        """Brings every caBundle up to date. `invented`: authorities of Services that nobody else sees to."""
        patches: dict[tuple[Resource, str], list[Obj]] = {}
        for call in calls:
            operations = patches.setdefault((call.resource, call.name), [])
            authority = self._authority(call, invented)
            bundle = encode(authority) if authority else ""
            if bundle and call.bundle != bundle:
                operations.append({"op": "add", "path": call.pointer, "value": bundle})
            if bundle and not call.has_rules and call.webhook in _RULES:
                path = call.pointer.removesuffix("clientConfig/caBundle") + "rules"
                operations.append({"op": "add", "path": path, "value": _RULES[call.webhook]})
        for (resource, name), operations in patches.items():
            if operations:
                await self._patch(resource, name, operations)

    def _authority(self, call: Reference, invented: Mapping[Target, KeyPair]) -> bytes | None:
        if is_foreign(call):
            return None
        store = self._stage.store
        if call.certificate or call.secret:
            if not self._stage.ungated and not CA_INJECTOR.is_up(store):
                return None
            namespace, _, name = call.secret.partition("/")
            named = store.get(builtin.SECRETS.name, namespace, name)
            pair = read(certificate_secret(store, call.certificate) if call.certificate else named)
            return pair.ca if pair else None
        rotation = rotation_of(call.target)
        if rotation is None:
            return invented[call.target].ca if call.target in invented else None
        if not rotation.injects or (not self._stage.ungated and not rotation.operator.is_up(store)):
            return None
        pair = read(store.get(builtin.SECRETS.name, call.target.namespace, rotation.secret))
        return pair.ca if pair else None

    async def _patch(self, resource: Resource, name: str, operations: list[Obj]) -> None:
        try:
            written: dict[str, Any] = await self._stage.client.json_patch(resource, "", name, operations)
        except ApiError as error:
            subject = {"kind": resource.kind, "metadata": {"name": name}}
            self._stage.journal.write("error", subject, message=str(error))
            return
        self._stage.journal.write("injected", written)
        if resource == builtin.CRDS:
            self._catalogue.take(written)
