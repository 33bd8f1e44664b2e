"""The simulator against a real API server: what operators do once their Deployment is up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from testbed.api import Api, ApiError
from testbed.controlplane import ControlPlane
from testbed.simulator import Simulator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.xdist_group("simulator"),
    pytest.mark.skipif(os.geteuid() != 0, reason="webhooks listen on ports below 1024"),
]

DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
SECRETS = "/api/v1/namespaces/{}/secrets"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STORES = "/apis/external-secrets.io/v1/clustersecretstores"
VAULT = {"apiVersion": "external-secrets.io/v1", "kind": "ClusterSecretStore", "metadata": {"name": "vault"}}
EXTERNAL = "/apis/external-secrets.io/v1/namespaces/{}/externalsecrets"


class Bed:
    """A control plane with a simulator, and the objects that the tests make."""

    def __init__(self, plane: ControlPlane, simulator: Simulator) -> None:
        self.plane = plane
        self.simulator = simulator

    @property
    def api(self) -> Api:
        return self.plane.api

    def namespace(self, name: str) -> str:
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self.api.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda found: found is not None)
        return name

    def deploy(self, namespace: str, name: str, *, replicas: int = 1) -> None:
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "none"}]}}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        self.api.apply(f"{DEPLOYMENTS.format(namespace)}/{name}", manifest)

    def serve(self, namespace: str, name: str) -> None:
        spec = {"selector": {"app": name}, "ports": [{"port": 443}]}
        self.api.create(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name}, "spec": spec})


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("simulated")
    bundles = folder / "bundles"
    bundles.mkdir()
    (bundles / "widget.yaml").write_text(yaml.safe_dump(definition("example.com", "Widget", "widgets")))
    with ControlPlane() as plane:
        plane.start(workdir=folder / "plane")
        with Simulator(
            kubeconfig=plane.kubeconfig, journal=folder / "journal.jsonl", scale=0.01, olm_crds=bundles
        ) as simulator:
            yield Bed(plane, simulator)


def definition(group: str, kind: str, plural: str, *, version: str = "v1", namespaced: bool = True) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{**served, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def define(bed: Bed, *manifests: dict[str, Any]) -> None:
    for manifest in manifests:
        bed.api.create(DEFINITIONS, manifest)
        bed.simulator.wait_for("CustomResourceDefinition", manifest["metadata"]["name"])


def ready(found: Any) -> bool:
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


@pytest.fixture(scope="module")
def secrets(bed: Bed) -> str:
    """External Secrets, installed and running, in a namespace with nothing else."""
    group = "external-secrets.io"
    define(
        bed,
        definition(group, "ClusterSecretStore", "clustersecretstores", namespaced=False),
        definition(group, "ExternalSecret", "externalsecrets"),
    )
    return bed.namespace("external-secrets")


def external(name: str, *keys: str) -> dict[str, Any]:
    data = [{"secretKey": key, "remoteRef": {"key": key.upper()}} for key in keys]
    spec = {"secretStoreRef": {"kind": "ClusterSecretStore", "name": "vault"}, "data": data}
    return {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": name}, "spec": spec}


def test_an_external_secret_becomes_a_secret_once_its_operator_and_store_are_up(bed: Bed, secrets: str) -> None:
    bed.api.create(
        STORES, {"apiVersion": "external-secrets.io/v1", "kind": "ClusterSecretStore", "metadata": {"name": "vault"}}
    )
    bed.api.create(EXTERNAL.format(secrets), external("login", "user", "password"))
    bed.simulator.wait_for("ExternalSecret", "login", secrets, state="seen")
    assert bed.api.find(f"{SECRETS.format(secrets)}/login") is None

    bed.deploy(secrets, "external-secrets")
    found = bed.api.wait(f"{EXTERNAL.format(secrets)}/login", ready)

    assert set(bed.api.get(f"{SECRETS.format(secrets)}/login")["data"]) == {"user", "password"}
    assert found["status"]["syncedResourceVersion"].startswith("1-")
    entry = bed.simulator.wait_for("ExternalSecret", "login", secrets)
    assert entry["resourceVersion"] == found["metadata"]["resourceVersion"]
    unblocked = bed.simulator.wait_for("ExternalSecret", "login", secrets, state="unblocked")
    assert unblocked["waitedFor"] == {"kind": "Deployment", "namespace": secrets, "name": "external-secrets"}


def test_a_secret_that_was_deleted_is_made_again(bed: Bed, secrets: str) -> None:
    bed.deploy(secrets, "external-secrets")
    bed.api.apply(f"{STORES}/vault", VAULT)
    bed.api.create(EXTERNAL.format(secrets), external("again", "token"))
    before = bed.api.wait(f"{SECRETS.format(secrets)}/again", lambda found: found is not None)
    bed.api.wait(f"{EXTERNAL.format(secrets)}/again", ready)
    bed.api.delete(f"{SECRETS.format(secrets)}/again")
    uid = before["metadata"]["uid"]
    after = bed.api.wait(f"{SECRETS.format(secrets)}/again", lambda found: found and found["metadata"]["uid"] != uid)
    assert after["data"] == before["data"]


def test_an_object_that_is_played_failed_heals_when_it_is_mended(bed: Bed, secrets: str) -> None:
    bed.deploy(secrets, "external-secrets")
    bed.api.apply(f"{STORES}/vault", VAULT)
    bed.simulator.break_(f"externalsecret/{secrets}/shaky=failed")
    bed.api.create(EXTERNAL.format(secrets), external("shaky", "token"))
    bed.simulator.wait_for("ExternalSecret", "shaky", secrets, state="unhealthy")
    assert not ready(bed.api.get(f"{EXTERNAL.format(secrets)}/shaky"))
    bed.simulator.break_("")
    assert bed.api.wait(f"{EXTERNAL.format(secrets)}/shaky", ready)


def test_a_subscription_brings_crds_and_then_a_csv(bed: Bed) -> None:
    group = "operators.coreos.com"
    kinds = {
        "Subscription": "subscriptions",
        "InstallPlan": "installplans",
        "ClusterServiceVersion": "clusterserviceversions",
        "CatalogSource": "catalogsources",
    }
    define(bed, *(definition(group, kind, plural, version="v1alpha1") for kind, plural in kinds.items()))
    namespace = bed.namespace("olm")
    for name in ("olm-operator", "catalog-operator"):
        bed.deploy(namespace, name)
    root = f"/apis/{group}/v1alpha1/namespaces/{namespace}"
    head = {"apiVersion": f"{group}/v1alpha1"}
    bed.api.create(f"{root}/catalogsources", {**head, "kind": "CatalogSource", "metadata": {"name": "hub"}})
    spec = {"name": "widget-operator", "source": "hub", "sourceNamespace": namespace}
    body = {**head, "kind": "Subscription", "metadata": {"name": "widgets"}, "spec": spec}
    bed.api.create(f"{root}/subscriptions", body)

    crd = bed.simulator.wait_for("CustomResourceDefinition", "widgets.example.com")
    csv = bed.simulator.wait_for("ClusterServiceVersion", "widget-operator.v1.0.0", namespace)
    operator = bed.simulator.wait_for("Deployment", "widget-operator", namespace)

    assert crd["n"] < operator["n"] < csv["n"]
    subscription = bed.simulator.wait_for("Subscription", "widgets", namespace)
    assert subscription["n"] > csv["n"]
    assert subscription["resourceVersion"] == csv["resourceVersion"]
    status = bed.api.get(f"{root}/subscriptions/widgets")["status"]
    assert (status["state"], status["installedCSV"]) == ("AtLatestKnown", "widget-operator.v1.0.0")


def test_a_webhook_answers_only_while_its_deployment_is_ready(bed: Bed) -> None:
    namespace = bed.namespace("guarded")
    bed.deploy(namespace, "guard", replicas=0)
    bed.serve(namespace, "guard")
    webhook = {
        "name": "guard.example.com",
        "clientConfig": {"service": {"namespace": namespace, "name": "guard"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    bed.api.create(kind, {"metadata": {"name": "guard"}, "webhooks": [webhook]})
    path = f"/api/v1/namespaces/{namespace}/configmaps"

    until_refused(bed, path, 500)
    bed.deploy(namespace, "guard")
    until_refused(bed, path, None)
    bed.simulator.break_(f"webhook/{namespace}/guard=deny")
    until_refused(bed, path, 403)
    bed.simulator.break_("")
    until_refused(bed, path, None)
    bed.deploy(namespace, "guard", replicas=0)
    until_refused(bed, path, 500)


def refusal(bed: Bed, path: str, name: str) -> int | None:
    """The status with which a new ConfigMap is refused, or None."""
    try:
        bed.api.create(path, {"metadata": {"name": name}})
    except ApiError as error:
        return error.code
    return None


def until_refused(bed: Bed, path: str, code: int | None) -> None:
    bed.api.wait("/api/v1/namespaces/default", lambda _: refusal(bed, f"{path}?dryRun=All", "any") == code)


def test_an_aggregated_api_is_served_once_its_deployment_is_ready(bed: Bed) -> None:
    namespace = bed.namespace("metrics")
    bed.serve(namespace, "metrics-server")
    spec = {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "service": {"namespace": namespace, "name": "metrics-server"},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    kind = "/apis/apiregistration.k8s.io/v1/apiservices"
    bed.api.create(kind, {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": spec})
    bed.deploy(namespace, "metrics-server")
    bed.simulator.wait_for("APIService", "v1beta1.metrics.k8s.io")
    resources = bed.api.get("/apis/metrics.k8s.io/v1beta1")["resources"]
    assert {entry["name"] for entry in resources} == {"nodes", "pods"}
    assert bed.api.get("/apis/metrics.k8s.io/v1beta1/nodes")["items"] == []


@pytest.mark.parametrize(("mode", "reason"), [("never", ""), ("imagepull", "ImagePullBackOff")])
def test_a_workload_that_is_played_broken_comes_up_when_it_is_mended(bed: Bed, mode: str, reason: str) -> None:
    namespace = bed.namespace(f"broken-{mode}")
    bed.simulator.break_(f"deployment/{namespace}/app={mode}")
    bed.deploy(namespace, "app")
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = bed.api.wait(pods, lambda found: any(waiting(one) == reason for one in found["items"]))["items"][0]
    assert [gate["name"] for gate in pod["spec"]["schedulingGates"]] == ["simulator/delay"]
    bed.simulator.break_("")
    bed.simulator.wait_for("Deployment", "app", namespace)


def waiting(pod: dict[str, Any]) -> str:
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))


def test_a_conversion_webhook_serves_other_versions_once_it_is_trusted(bed: Bed) -> None:
    namespace = bed.namespace("converted")
    bed.serve(namespace, "converter")
    bed.deploy(namespace, "converter")
    manifest = definition("conversion.example.com", "Gadget", "gadgets")
    older = {**manifest["spec"]["versions"][0], "name": "v1alpha1", "storage": False}
    manifest["spec"]["versions"].append(older)
    client = {"service": {"namespace": namespace, "name": "converter", "path": "/convert"}}
    webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
    manifest["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    define(bed, manifest)
    bed.simulator.wait_for("CustomResourceDefinition", "gadgets.conversion.example.com", state="injected")

    root = "/apis/conversion.example.com/{}/namespaces/" + namespace + "/gadgets"
    head = {
        "apiVersion": "conversion.example.com/v1",
        "kind": "Gadget",
        "metadata": {"name": "one"},
        "spec": {"size": 3},
    }
    bed.api.create(root.format("v1"), head)

    def answered(_: Any) -> bool:
        return bed.api.raw("GET", f"{root.format('v1alpha1')}/one")[0] == 200

    bed.api.wait("/api/v1/namespaces/default", answered)
    found = bed.api.get(f"{root.format('v1alpha1')}/one")
    assert found["apiVersion"] == "conversion.example.com/v1alpha1"
    assert found["spec"] == {"size": 3}
