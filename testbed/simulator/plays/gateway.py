"""kgateway: the class it registers, Gateways with the proxy they run."""

from __future__ import annotations

from typing import Any

from testbed.simulator import builtin
from testbed.simulator.conditions import Status, condition, timed
from testbed.simulator.objects import Obj, Resource, get
from testbed.simulator.operators import KGATEWAY
from testbed.simulator.play import Play, steps
from testbed.simulator.scene import Scene, is_true

GROUP = "gateway.networking.k8s.io"
GATEWAYS = f"gateways.{GROUP}"
CLASSES = f"gatewayclasses.{GROUP}"
PARAMETERS = "gatewayparameters.gateway.kgateway.dev"
CONTROLLER = "kgateway.dev/kgateway"


async def _register(scene: Scene) -> None:
    """Played on kgateway's own Deployment: it creates its class once Gateway API's CRDs are there."""
    resource: Resource = await scene.until(
        (builtin.CRDS.name,), lambda: scene.stage.resource(CLASSES), what=("CustomResourceDefinition", "", CLASSES)
    )
    body: Obj = {"metadata": {"name": "kgateway"}, "spec": {"controllerName": CONTROLLER}}
    await scene.ensure(resource, body, owned=False)
    # The CNI of the cluster would bring this one; a route of the homelab leads there.
    meta = {"namespace": "kube-system", "name": "hubble-ui"}
    await scene.ensure(builtin.SERVICES, {"metadata": meta, "spec": {"ports": [{"port": 80}]}}, owned=False)


def _accepted(obj: Obj) -> Status:
    observed = obj["metadata"].get("generation", 0)
    return {"conditions": [condition("Accepted", observedGeneration=observed)]}


async def _gateway(scene: Scene) -> None:
    """Accepted at once; Programmed once the proxy's Service has an address and every listener its certificate."""
    name = scene.spec["gatewayClassName"]
    await scene.until(
        (CLASSES,), lambda: is_true(scene.store.get(CLASSES, "", name), "Accepted"), what=("GatewayClass", "", name)
    )
    if not is_true(scene.obj, "Programmed"):
        await scene.progress(_status(scene, address=""))
        await scene.wait(0.5)
        await _proxy(scene)
        await scene.progress(_status(scene, address=""))
        for secret in _certificates(scene):
            await scene.secret(scene.namespace, secret)
        await scene.progress(_status(scene, address=""))
        await scene.wait(0.5)
    where = scene.namespace, scene.name
    address = await scene.until((builtin.SERVICES.name,), lambda: _address(scene), what=("Service", *where))
    await scene.healthy(_status(scene, address=address))


def _certificates(scene: Scene) -> list[str]:
    listeners: list[dict[str, Any]] = scene.spec.get("listeners") or []
    return [reference["name"] for entry in listeners for reference in get(entry, "tls", "certificateRefs") or ()]


async def _proxy(scene: Scene) -> None:
    labels = {"gateway.networking.k8s.io/gateway-name": scene.name}
    where = {"namespace": scene.namespace, "name": scene.name}
    image = {"name": "kgateway-proxy", "image": "registry.invalid/envoy-wrapper:v2.2.1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [image]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    await scene.ensure(builtin.DEPLOYMENTS, {"metadata": where, "spec": spec})
    ports = dict.fromkeys(int(entry["port"]) for entry in scene.spec.get("listeners") or ())
    await scene.service(scene.name, *ports, selector=labels, type=_service_type(scene))


def _service_type(scene: Scene) -> str:
    name = get(scene.spec, "infrastructure", "parametersRef", "name") or ""
    parameters = scene.store.get(PARAMETERS, scene.namespace, name)
    return get(parameters, "spec", "kube", "service", "type") or "LoadBalancer"


def _address(scene: Scene) -> str:
    service = scene.store.get(builtin.SERVICES.name, scene.namespace, scene.name)
    if service is None:
        return ""
    if service["spec"].get("type") != "LoadBalancer":
        return str(service["spec"].get("clusterIP", ""))
    ingress = get(service, "status", "loadBalancer", "ingress") or [{}]
    return str(ingress[0].get("ip", ""))


def _status(scene: Scene, *, address: str) -> Status:
    observed = scene.generation
    programmed = condition(
        "Programmed",
        bool(address),
        "Programmed" if address else "AddressNotAssigned",
        "" if address else "No addresses have been assigned to the Gateway",
        observedGeneration=observed,
    )
    return {
        "addresses": [{"type": "IPAddress", "value": address}] if address else [],
        "conditions": [condition("Accepted", observedGeneration=observed), programmed],
        "listeners": [_listener(scene, entry, programmed=bool(address)) for entry in scene.spec.get("listeners") or ()],
    }


def _listener(scene: Scene, entry: dict[str, Any], *, programmed: bool) -> Status:
    references = get(entry, "tls", "certificateRefs") or ()
    store = scene.store
    resolved = all(store.get(builtin.SECRETS.name, scene.namespace, one["name"]) is not None for one in references)
    old: Status = next((one for one in get(scene.obj, "status", "listeners") or () if one["name"] == entry["name"]), {})
    wanted = (
        condition("Accepted"),
        condition("Conflicted", False, "NoConflicts"),
        condition("ResolvedRefs", resolved, "ResolvedRefs" if resolved else "InvalidCertificateRef"),
        condition("Programmed", resolved and programmed, "Programmed" if resolved else "Invalid"),
    )
    return {
        "name": entry["name"],
        "attachedRoutes": old.get("attachedRoutes", 0),
        "supportedKinds": [{"group": GROUP, "kind": "HTTPRoute"}],
        "conditions": timed([{**one, "observedGeneration": scene.generation} for one in wanted], old.get("conditions")),
    }


PLAYS = (
    Play(
        builtin.DEPLOYMENTS.name,
        KGATEWAY,
        _register,
        applies=lambda obj: obj["metadata"]["name"] == "kgateway",
        quiet=True,
    ),
    Play(CLASSES, KGATEWAY, steps(_accepted)),
    Play(
        GATEWAYS,
        KGATEWAY,
        _gateway,
        failure={
            "conditions": [condition("Accepted", False, "Invalid", "played broken"), condition("Programmed", False)]
        },
    ),
)
