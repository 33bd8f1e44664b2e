"""Kinds that are not served yet, objects that two layers declare, and admission webhooks that do not answer yet."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed import pki
from testbed.chartserver import chart
from testbed.gitrepo import GitRepository
from tests.cluster.test_service_addresses import https_server

from .bed import Bed, Manifest, condition, config_map, release, settle, unique
from .objects import CRDS, crd, custom, deployment, let_run, namespace, source, text

pytestmark = pytest.mark.e2e

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
ADMISSION = "admissionregistration.k8s.io/v1"


def widgets(group: str, place: str, name: str = "one") -> str:
    return f"/apis/{group}/v1/namespaces/{place}/widgets/{name}"


def test_a_crd_and_its_resources_in_one_layer_need_one_pass(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    resources = [custom("Widget", group, f"w-{number}", place) for number in range(20)]
    started = time.monotonic()
    stack = bed.stack({"name": "app", "manifests": [*resources, crd("Widget", group), config_map("x", place)]})
    stack.ready()
    assert time.monotonic() - started < 15
    assert stack.layer("app")["objects"] == {"ready": 22, "total": 22, "failed": 0}


def test_a_resource_without_a_namespace_of_a_cluster_scoped_kind_that_comes_with_it_is_placed_right(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    wide = custom("Widget", group, "wide", "")
    del wide["metadata"]["namespace"]
    stack = bed.stack(
        {"name": "app", "targetNamespace": place, "manifests": [wide, crd("Widget", group, scope="Cluster")]}
    )
    stack.ready()
    assert "namespace" not in bed.api.get(f"/apis/{group}/v1/widgets/wide")["metadata"]


def test_a_resource_before_the_chart_that_brings_its_crd_waits_for_it_and_nothing_else_does(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    name = unique("brings")
    bed.charts.publish(chart(name, "1.0.0", {"crds/crd.yaml": text(crd("Widget", group))}))
    needed = {"apiVersion": "v1", "kind": "ConfigMap", "namespace": place, "name": "go"}
    stack = bed.stack(
        {"name": "early", "manifests": [custom("Widget", group, "one", place), config_map("free", place)]},
        {"name": "late", "requires": [needed], "charts": [release(bed, name, place)]},
    )
    status = stack.phase("early", "Progressing", says="not served yet")
    assert f"Widget {place}/one" in status["message"]
    assert condition({"status": status}, "Stalled")["status"] == "False"
    bed.until(f"/api/v1/namespaces/{place}/configmaps/free", lambda found: found is not None)
    bed.api.create(f"/api/v1/namespaces/{place}/configmaps", config_map("go", place))
    stack.ready()
    assert bed.api.find(widgets(group, place)) is not None


def test_a_layer_that_needs_a_kind_from_one_that_waits_for_it_is_told_so(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    stack = bed.stack(
        {"name": "early", "manifests": [custom("Widget", group, "one", place)]},
        {"name": "late", "dependsOn": ["early"], "manifests": [crd("Widget", group)]},
    )
    assert "late" in stack.phase("early", "Progressing", says="not served yet")["message"]
    stack.edit("late", dependsOn=None)
    stack.ready()


def test_a_crd_that_is_deleted_comes_back_with_the_resources_it_took_along(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    manifests = [crd("Widget", group), custom("Widget", group, "one", place, spec={"size": 1})]
    stack = bed.stack({"name": "app", "manifests": manifests})
    stack.ready()
    before = bed.api.get(f"{CRDS}/widgets.{group}")["metadata"]["uid"]
    bed.api.delete(f"{CRDS}/widgets.{group}")
    bed.until(f"{CRDS}/widgets.{group}", lambda found: found is not None and found["metadata"]["uid"] != before)
    bed.until(widgets(group, place), lambda found: found is not None)
    stack.ready()


def test_a_namespace_in_two_layers_has_one_owner_and_the_labels_of_both(bed: Bed) -> None:
    place = unique("shared")
    stack = bed.stack(
        {"name": "one", "manifests": [namespace(place, labels={"from": "one", "one": "yes"})]},
        {
            "name": "two",
            "dependsOn": ["one"],
            "manifests": [namespace(place, labels={"from": "two", "two": "yes"}), config_map("x", place)],
        },
    )
    stack.ready()
    since = bed.plane.audit_offset()
    labels = bed.api.get(f"/api/v1/namespaces/{place}")["metadata"]["labels"]
    assert labels.items() >= {"from": "one", "one": "yes", "two": "yes", "clusterstack.dev/layer": "one"}.items()
    warning = stack.layer("two")["warnings"][0]
    assert f"Namespace {place}" in warning
    assert "one" in warning
    assert stack.layer("one").get("warnings") is None
    stack.reconcile()
    settle(1)
    assert [line for line in bed.writes(since) if place in line] == []
    stack.edit("one", manifests=[config_map("y", place)])
    stack.ready()
    bed.until(
        f"/api/v1/namespaces/{place}",
        lambda found: found["metadata"]["labels"].items() >= {"from": "two", "clusterstack.dev/layer": "two"}.items(),
    )


def test_two_layers_that_declare_the_same_object_differently_do_not_fight(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        {"name": "one", "manifests": [config_map("x", place, a="1", b="1")]},
        {"name": "two", "manifests": [config_map("x", place, a="2", c="2")]},
    )
    stack.ready()
    since = bed.plane.audit_offset()
    settle(2)
    assert [line for line in bed.writes(since) if place in line] == []
    assert bed.api.get(f"/api/v1/namespaces/{place}/configmaps/x")["data"] == {"a": "1", "b": "1", "c": "2"}


def test_an_object_stays_with_its_owner_while_that_layer_is_broken(bed: Bed, git: GitRepository) -> None:
    place = unique("shared")
    mine, theirs = namespace(place, labels={"one": "yes"}), namespace(place, labels={"two": "yes"})
    git.commit("Start", {"one/one.yaml": text(mine), "two/two.yaml": text(theirs, config_map("x", place))})
    stack = bed.stack({"name": "one", "path": "one"}, {"name": "two", "path": "two"}, sources=source(git))
    stack.ready()
    since = bed.plane.audit_offset()
    for broken, other in (("one", "two"), ("two", "one")):
        file = f"{broken}/{broken}.yaml"
        good = git.read(file)
        git.commit("Break", {file: "kind: [\n"})
        stack.phase(broken, "Failed")
        stack.ready(other)
        git.commit("Mend", {file: good})
        stack.ready()
    settle(1)
    assert [line for line in bed.writes(since) if place in line] == []


def guard(bed: Bed, name: str, ca: pki.Authority) -> tuple[str, Manifest]:
    """A Service with an address and a webhook behind it that is asked about ConfigMaps with the label `guard: name`."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 443}]}}
    address = bed.api.create("/api/v1/namespaces/default/services", service)["spec"]["clusterIP"]
    return str(address), webhook_configuration(name, "default", ca)


def webhook_configuration(name: str, place: str, ca: pki.Authority) -> Manifest:
    """A webhook that is asked about ConfigMaps with the label `guard: name`."""
    reference = {"name": name, "namespace": place, "path": "/validate"}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}
    webhook = {
        "name": f"{name}.example.org",
        "clientConfig": {"service": reference, "caBundle": base64.b64encode(ca.pem).decode()},
        "rules": [rule],
        "objectSelector": {"matchLabels": {"guard": name}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    kind = "ValidatingWebhookConfiguration"
    return {"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]}


def guarded(name: str, place: str, guard: str) -> Manifest:
    manifest = config_map(name, place, size="1")
    manifest["metadata"]["labels"] = {"guard": guard}
    return manifest


def allow(_: str, review: Any) -> dict[str, Any]:
    response = {"uid": review["request"]["uid"], "allowed": True}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def refuse(_: str, review: Any) -> dict[str, Any]:
    response = {"uid": review["request"]["uid"], "allowed": False, "status": {"message": "not on a Sunday"}}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


@pytest.fixture
def watched(bed: Bed) -> Callable[[], tuple[str, str, pki.Authority]]:
    """Makes a webhook in force whose server is not up: its name, its address, its authority."""
    if not bed.plane.access.webhooks:
        pytest.skip("needs the right to listen on port 443")

    def make() -> tuple[str, str, pki.Authority]:
        name, ca = unique("guard"), pki.authority("webhook-ca")
        address, configuration = guard(bed, name, ca)
        bed.api.create(WEBHOOKS, configuration)
        _in_force(bed, name)
        return name, address, ca

    return make


def _in_force(bed: Bed, name: str) -> None:
    """A new webhook configuration takes a moment to be in force."""
    for attempt in range(200):
        probe = guarded(f"{name}-probe-{attempt}", "default", name)
        code, _ = bed.api.raw("POST", "/api/v1/namespaces/default/configmaps", json.dumps(probe).encode())
        if code == 500:
            return
    raise AssertionError("the webhook is never asked")


def test_objects_wait_for_a_webhook_that_is_down_and_go_on_as_it_answers(
    bed: Bed, watched: Callable[[], tuple[str, str, pki.Authority]], tmp_path: Path
) -> None:
    place = bed.namespace()
    name, address, ca = watched()
    objects = [guarded(f"held-{number}", place, name) for number in range(5)]
    stack = bed.stack({"name": "app", "manifests": [*objects, config_map("free", place)]})
    status = stack.phase("app", "Progressing", says=f"{name}.example.org")
    assert f"default/{name}" in status["message"]
    bed.until(f"/api/v1/namespaces/{place}/configmaps/free", lambda found: found is not None)
    settle(5)  # long enough for any back-off to have grown
    with https_server(address, ca, name, tmp_path, allow):
        up = time.monotonic()
        for number in range(5):
            bed.until(f"/api/v1/namespaces/{place}/configmaps/held-{number}", lambda found: found is not None)
        assert time.monotonic() - up < 3
        stack.ready()


def test_a_webhook_that_refuses_is_quoted(
    bed: Bed, watched: Callable[[], tuple[str, str, pki.Authority]], tmp_path: Path
) -> None:
    place = bed.namespace()
    name, address, ca = watched()
    with https_server(address, ca, name, tmp_path, refuse):
        stack = bed.stack({"name": "app", "manifests": [guarded("held", place, name)]})
        status = stack.phase("app", "Failed", says="not on a Sunday")
        assert f"ConfigMap {place}/held" in status["message"]
    with https_server(address, ca, name, tmp_path, allow):
        stack.ready()


def test_a_webhook_configuration_comes_after_the_server_behind_it(bed: Bed) -> None:
    place, name = bed.namespace(), unique("guard")
    _, configuration = guard(bed, name, pki.authority("webhook-ca"))
    stack = bed.stack(
        {
            "name": "app",
            "manifests": [configuration, guarded("held", place, name), deployment("server", place, runs=False)],
        }
    )
    stack.phase("app", "Progressing", says="server")
    assert bed.api.find(f"{WEBHOOKS}/{name}") is None
    let_run(bed.api, "server", place)
    bed.until(f"{WEBHOOKS}/{name}", lambda found: found is not None)
    stack.ready()
    bed.api.delete(f"{WEBHOOKS}/{name}")
    bed.until(f"{WEBHOOKS}/{name}", lambda found: found is not None)
