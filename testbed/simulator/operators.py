"""Which Deployments stand behind each operator, and when a workload counts as up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testbed.simulator import builtin
from testbed.simulator.objects import Obj, condition, generation, get
from testbed.simulator.store import Store


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator acts once every Deployment called `name` or `<release>-name` that is named here is Available."""

    name: str
    deployments: tuple[str, ...]

    def up(self, store: Store, wanted: str) -> Obj | None:
        """The Available Deployment of that name, if there is one."""
        found = (obj for obj in store.all(builtin.DEPLOYMENTS.name) if _is(obj, wanted))
        return next((obj for obj in found if is_available(obj)), None)

    def is_up(self, store: Store) -> bool:
        return all(self.up(store, wanted) is not None for wanted in self.deployments)


CERT_MANAGER = Operator("cert-manager", ("cert-manager", "cert-manager-webhook"))
CA_INJECTOR = Operator("cainjector", ("cert-manager-cainjector",))
EXTERNAL_SECRETS = Operator("external-secrets", ("external-secrets",))
EXTERNAL_SECRETS_CERTS = Operator("external-secrets-cert-controller", ("external-secrets-cert-controller",))
OLM = Operator("olm", ("olm-operator", "catalog-operator"))
KGATEWAY = Operator("kgateway", ("kgateway",))
METALLB = Operator("metallb", ("metallb-controller",))
LONGHORN = Operator("longhorn", ("longhorn-driver-deployer",))
STRIMZI = Operator("strimzi", ("strimzi-cluster-operator",))
RABBITMQ = Operator("rabbitmq", ("rabbitmq-cluster-operator",))
PERCONA_PG = Operator("percona-pg", ("pg-operator",))
KEYCLOAK = Operator("keycloak", ("keycloak-operator",))
KNATIVE = Operator("knative-operator", ("knative-operator", "operator-webhook"))
KNATIVE_WEBHOOK = Operator("knative-operator-webhook", ("operator-webhook",))
VICTORIA_METRICS = Operator("victoria-metrics", ("victoria-metrics-operator",))
OPENTELEMETRY = Operator("opentelemetry", ("opentelemetry-operator",))
TERRAFORM = Operator("hcp-terraform", ("hcp-terraform-operator",))
CAMEL_K = Operator("camel-k", ("camel-k-operator",))
KAOTO = Operator("kaoto", ("kaoto-operator-controller-manager",))
ACTIONS_RUNNER = Operator("actions-runner-controller", ("gha-rs-controller",))
DRAGONFLY = Operator("dragonfly", ("dragonfly-operator",))
KEDA = Operator("keda", ("keda-operator",))
VPA = Operator("vpa", ("vpa-recommender",))


def is_available(deployment: Mapping[str, Any]) -> bool:
    """Rolled out and Available at its current generation."""
    wanted = get(deployment, "spec", "replicas")
    wanted = 1 if wanted is None else wanted
    return (
        condition(deployment, "Available") == "True"
        and (get(deployment, "status", "observedGeneration") or 0) >= generation(deployment)
        and (get(deployment, "status", "updatedReplicas") or 0) >= wanted
        and (get(deployment, "status", "availableReplicas") or 0) >= wanted
    )


def is_ready(workload: Obj) -> bool:
    """Whether a Deployment, DaemonSet, StatefulSet or Job has done what its spec asks for."""
    status: Mapping[str, Any] = workload.get("status") or {}
    if workload["kind"] == "Job":
        return condition(workload, "Complete") == "True"
    if status.get("observedGeneration", 0) < generation(workload):
        return False
    if workload["kind"] == "Deployment":
        return is_available(workload)
    if workload["kind"] == "DaemonSet":
        desired = status.get("desiredNumberScheduled", 0)
        return bool(status.get("numberAvailable", 0) >= desired and status.get("updatedNumberScheduled", 0) >= desired)
    replicas = get(workload, "spec", "replicas")
    replicas = 1 if replicas is None else replicas
    return bool(status.get("readyReplicas", 0) >= replicas and status.get("updatedReplicas", 0) >= replicas)


def _is(deployment: Obj, wanted: str) -> bool:
    name = deployment["metadata"]["name"]
    return bool(name == wanted or name.endswith(f"-{wanted}"))
