"""Strimzi and RabbitMQ."""

from __future__ import annotations

from testbed.simulator import builtin
from testbed.simulator.conditions import Status, condition
from testbed.simulator.objects import Obj, generation, get
from testbed.simulator.operators import RABBITMQ, STRIMZI
from testbed.simulator.play import Play, steps
from testbed.simulator.scene import Scene

_CREATING = {"conditions": [condition("NotReady", True, "Creating", "Kafka cluster is being deployed")]}
_CLUSTER = "a-simulated-cluster-id"


def _kafka(obj: Obj) -> Status:
    listeners = get(obj, "spec", "kafka", "listeners") or []
    name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
    host = f"{name}-kafka-bootstrap.{namespace}.svc"
    return {
        "conditions": [condition("Ready")],
        "observedGeneration": generation(obj),
        "clusterId": _CLUSTER,
        "kafkaVersion": get(obj, "spec", "kafka", "version") or "4.1.1",
        "listeners": [{"name": entry["name"], "bootstrapServers": f"{host}:{entry['port']}"} for entry in listeners],
    }


async def _kafka_services(scene: Scene) -> None:
    ports = [entry["port"] for entry in get(scene.spec, "kafka", "listeners") or []]
    selector = {"strimzi.io/cluster": scene.name}
    await scene.service(f"{scene.name}-kafka-bootstrap", 9091, *ports, selector=selector)
    await scene.service(f"{scene.name}-kafka-brokers", 9090, 9091, *ports, selector=selector, clusterIP="None")


def _node_pool(obj: Obj) -> Status:
    replicas = int(get(obj, "spec", "replicas") or 0)
    return {
        "observedGeneration": generation(obj),
        "nodeIds": list(range(replicas)),
        "replicas": replicas,
        "clusterId": _CLUSTER,
        "roles": get(obj, "spec", "roles") or [],
    }


def _ready(obj: Obj) -> Status:
    return {"conditions": [condition("Ready")], "observedGeneration": generation(obj)}


def _rabbit(*, available: bool) -> Status:
    replicas = condition("AllReplicasReady", available, "AllPodsAreReady" if available else "NotAllPodsReady")
    endpoint = condition("ClusterAvailable", available, "AtLeastOneEndpointAvailable" if available else "NoEndpoints")
    warnings = condition("NoWarnings", True, "NoWarnings")
    success = condition("ReconcileSuccess", True if available else None, "Success" if available else "Initialising")
    return {"conditions": [replicas, endpoint, warnings, success]}


def _rabbit_ready(obj: Obj) -> Status:
    return {**_rabbit(available=True), "observedGeneration": generation(obj)}


async def _rabbit_children(scene: Scene) -> None:
    selector = {"app.kubernetes.io/name": scene.name}
    await scene.service(scene.name, 5672, 15672, 15692, selector=selector)
    await scene.service(f"{scene.name}-nodes", 4369, 25672, selector=selector, clusterIP="None")
    user = {"username": "default_user", "password": scene.obj["metadata"]["uid"]}
    meta = {"namespace": scene.namespace, "name": f"{scene.name}-default-user"}
    await scene.ensure(builtin.SECRETS, {"metadata": meta, "stringData": user})


_kafka_failed = {"conditions": [condition("NotReady", True, "TimeoutException", "played broken")]}
_rabbit_failed = {"conditions": [condition("ReconcileSuccess", False, "Error", "played broken")]}

PLAYS = (
    Play("kafkas.kafka.strimzi.io", STRIMZI, steps(_CREATING, _kafka, then=_kafka_services), failure=_kafka_failed),
    Play("kafkanodepools.kafka.strimzi.io", STRIMZI, steps(_node_pool)),
    Play("kafkatopics.kafka.strimzi.io", STRIMZI, steps(_ready), failure=_kafka_failed),
    Play("kafkausers.kafka.strimzi.io", STRIMZI, steps(_ready), failure=_kafka_failed),
    Play(
        "rabbitmqclusters.rabbitmq.com",
        RABBITMQ,
        steps(_rabbit(available=False), _rabbit_ready, then=_rabbit_children),
        failure=_rabbit_failed,
    ),
)
