"""VictoriaMetrics' operator and OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.simulator import builtin
from testbed.simulator.conditions import Status, condition
from testbed.simulator.objects import Obj, generation, get, now
from testbed.simulator.operators import OPENTELEMETRY, VICTORIA_METRICS
from testbed.simulator.play import Play, steps
from testbed.simulator.scene import Scene

_GROUP = "operator.victoriametrics.com"
_PORTS = {
    "vmsingles": (8428,),
    "vmagents": (8429,),
    "vmalerts": (8080,),
    "vmalertmanagers": (9093, 9094),
    "vmauths": (8427,),
    "vlogs": (9428,),
    "vlsingles": (9428,),
    "vtsingles": (10428,),
}
_CONFIGURATION = (
    "vmpodscrapes",
    "vmservicescrapes",
    "vmnodescrapes",
    "vmstaticscrapes",
    "vmscrapeconfigs",
    "vmprobes",
    "vmrules",
    "vmusers",
    "vmalertmanagerconfigs",
)


def _operational(obj: Obj) -> Status:
    return {"updateStatus": "operational", "observedGeneration": generation(obj)}


def _applied(obj: Obj) -> Status:
    """What a parent that selects the object writes on it."""
    kind = f"vmks.vmks.vmagent.{_GROUP}/Applied"
    old: Status = next((entry for entry in get(obj, "status", "conditions") or () if entry["type"] == kind), {})
    entry = condition(kind, True, "ConfigParsedAndApplied", observedGeneration=generation(obj))
    return {**_operational(obj), "conditions": [{**entry, "lastUpdateTime": old.get("lastUpdateTime") or now()}]}


async def _workload_service(scene: Scene) -> None:
    plural = scene.resource.plural
    prefix = plural.removesuffix("s")
    labels = {"app.kubernetes.io/name": prefix, "app.kubernetes.io/instance": scene.name}
    await scene.service(f"{prefix}-{scene.name}", *_PORTS[plural], selector=labels)


def _collector(obj: Obj, *, up: bool) -> Status:
    mode = get(obj, "spec", "mode") or "deployment"
    if mode == "sidecar":
        return {"version": "0.145.0"}
    wanted = 0 if mode == "daemonset" else int(get(obj, "spec", "replicas") or 1)
    scale = {"replicas": wanted, "statusReplicas": f"{wanted if up else 0}/{wanted}"}
    return {"version": "0.145.0", "image": get(obj, "spec", "image") or "", "scale": scale}


async def _collector_service(scene: Scene) -> None:
    ports = [int(entry["port"]) for entry in scene.spec.get("ports") or ()]
    labels = {"app.kubernetes.io/instance": f"{scene.namespace}.{scene.name}"}
    await scene.service(f"{scene.name}-collector", *dict.fromkeys([4317, 4318, *ports]), selector=labels)
    if scene.spec.get("mode") == "statefulset":
        await scene.ensure(builtin.STATEFUL_SETS, _stateful_set(scene, labels))


def _stateful_set(scene: Scene, labels: Mapping[str, str]) -> Obj:
    container = {"name": "otc-container", "image": scene.spec.get("image") or "otel/opentelemetry-collector:0.145.0"}
    return {
        "metadata": {"namespace": scene.namespace, "name": f"{scene.name}-collector", "labels": dict(labels)},
        "spec": {
            "serviceName": f"{scene.name}-collector",
            "replicas": int(scene.spec.get("replicas") or 1),
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": {"containers": [container]}},
        },
    }


_failed = {"updateStatus": "failed", "reason": "played broken"}

PLAYS = (
    *(
        Play(
            f"{plural}.{_GROUP}",
            VICTORIA_METRICS,
            steps({"updateStatus": "expanding"}, _operational, then=_workload_service),
            failure=_failed,
        )
        for plural in _PORTS
    ),
    *(
        Play(f"{plural}.{_GROUP}", VICTORIA_METRICS, steps(_applied), failure=_failed, informational=True)
        for plural in _CONFIGURATION
    ),
    Play(
        "opentelemetrycollectors.opentelemetry.io",
        OPENTELEMETRY,
        steps(
            lambda obj: _collector(obj, up=False),
            lambda obj: _collector(obj, up=True),
            then=_collector_service,
        ),
        failure={"scale": {"replicas": 1, "statusReplicas": "0/1"}},
    ),
)
