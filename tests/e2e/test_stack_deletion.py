"""The end of a stack: what it takes with it, in which order, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testbed.chartserver import chart

from .bed import STACKS, Bed, Manifest, config_map, release, secret, settle, unique
from .objects import CRDS, claim, crd, custom, deployment, namespace

pytestmark = pytest.mark.e2e

MERGE = "application/merge-patch+json"
MARK = "clusterstack.dev/owner"
PAGE = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\n'


def collections(bed: Bed) -> Iterator[str]:
    """The path of every collection that the API server serves and that can be listed."""
    groups = bed.api.get("/apis")["groups"]
    bases = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    for base in bases:
        for resource in bed.api.get(base)["resources"]:
            if "/" not in resource["name"] and "list" in resource["verbs"]:
                yield f"{base}/{resource['name']}"


def marked(bed: Bed, name: str) -> list[str]:
    """Everything in the cluster that is marked as this stack's, whatever it is; and its inventories."""
    found = []
    for collection in collections(bed):
        for item in bed.api.get(collection)["items"]:
            metadata = item["metadata"]
            mark = (metadata.get("annotations") or {}).get(MARK, "")
            if mark.split("/")[1:2] == [name] or metadata["name"].startswith(f"clusterstack.{name}."):
                found.append(f"{collection.rpartition('/')[2]} {metadata.get('namespace', '')}/{metadata['name']}")
    return sorted(found)


def webhook(name: str) -> Manifest:
    """A webhook configuration that concerns no request."""
    rule = {
        "apiGroups": ["nothing.example.org"],
        "apiVersions": ["v1"],
        "resources": ["none"],
        "operations": ["CREATE"],
    }
    hook = {
        "name": f"{name}.example.org",
        "clientConfig": {"service": {"name": "nobody", "namespace": "default"}},
        "rules": [rule],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [hook],
    }


def role(name: str, place: str) -> Manifest:
    metadata = {"name": name, "namespace": place}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}


def town(bed: Bed, place: str, group: str) -> list[Manifest]:
    """Layers with something of everything."""
    bed.charts.publish(chart("page", "1.0.0", {"templates/page.yaml": PAGE}))
    return [
        {"name": "ground", "manifests": [namespace(place), crd("Widget", group), claim("data", place)]},
        {
            "name": "middle",
            "dependsOn": ["ground"],
            "manifests": [
                deployment("engine", place),
                role("reader", place),
                secret("token", place, word="x"),
                webhook(f"hook-{place}"),
                custom("Widget", group, "one", place),
            ],
            "charts": [release(bed, "page", place)],
        },
        {"name": "top", "dependsOn": ["middle"], "manifests": [config_map("roof", place)]},
    ]


def test_delete_takes_everything_in_reverse_order_and_leaves_only_claims(bed: Bed) -> None:
    place, group = unique("town"), f"{unique('g')}.example.org"
    layers = [{**layer, "health": {"policy": "Exists"}} for layer in town(bed, place, group)]
    stack = bed.stack(*layers, deletionPolicy="Delete")
    stack.ready()
    since = bed.plane.audit_offset()
    stack.delete()
    order = [line.split()[1] for line in bed.writes(since) if line.startswith("delete ")]
    order = [kind for kind in order if kind not in ("secrets", "configmaps", "stacklayers")]
    assert order == [
        "widgets",
        "validatingwebhookconfigurations",
        "deployments",
        "roles",
        "customresourcedefinitions",
    ]
    deleted = [line for line in bed.writes(since) if line.startswith("delete ")]
    at = {line: number for number, line in enumerate(deleted)}
    assert at[f"delete configmaps {place}/roof"] < at[f"delete widgets {place}/one"]
    assert marked(bed, stack.name) == [f"namespaces /{place}", f"persistentvolumeclaims {place}/data"], (
        "a claim keeps its namespace"
    )
    records = bed.api.get("/api/v1/secrets?labelSelector=owner%3Dhelm")["items"]
    assert [item["metadata"]["name"] for item in records if item["metadata"]["namespace"] == place] == []


def test_orphan_lets_the_stack_go_at_once_and_touches_nothing(bed: Bed) -> None:
    place, group = unique("town"), f"{unique('g')}.example.org"
    layers = [{**layer, "health": {"policy": "Exists"}} for layer in town(bed, place, group)]
    stack = bed.stack(*layers)
    stack.ready()
    before = marked(bed, stack.name)
    since = bed.plane.audit_offset()
    assert bed.api.delete(stack.path)["status"] == "Success", "no finalizer holds it"
    settle(2)
    assert [line for line in bed.writes(since) if place in line or group in line] == []
    assert marked(bed, stack.name) == before
    stack.apply()
    stack.ready()
    stack.apply(deletionPolicy="Delete")
    bed.until(stack.path, lambda found: found["metadata"].get("finalizers"))
    stack.delete()
    assert bed.api.find(f"{CRDS}/widgets.{group}") is None, "what it created once is still known as created"


def test_a_policy_that_is_set_while_the_operator_is_away_is_followed(bed: Bed) -> None:
    place = unique("town")
    stack = bed.stack({"name": "app", "manifests": [namespace(place), config_map("app", place)]})
    stack.ready()
    stack.apply(deletionPolicy="Delete")
    bed.until(stack.path, lambda found: found["metadata"].get("finalizers"))
    bed.operator.kill()
    bed.api.delete(stack.path)
    assert bed.api.get(stack.path)["metadata"]["deletionTimestamp"]
    bed.operator.start()
    bed.until(stack.path, lambda found: found is None)
    bed.until(f"/api/v1/namespaces/{place}", lambda found: found is None)


def test_a_finalizer_that_hangs_is_named_and_a_person_may_settle_for_orphan(bed: Bed) -> None:
    place = bed.namespace()
    held = config_map("held", place)
    held["metadata"]["finalizers"] = ["example.org/hold"]
    stack = bed.stack(
        {"name": "base", "manifests": [config_map("under", place)]},
        {"name": "top", "dependsOn": ["base"], "manifests": [held]},
        deletionPolicy="Delete",
    )
    stack.ready()
    bed.api.delete(stack.path)
    found = bed.until(stack.path, lambda found: f"{place}/held" in found["status"]["summary"].get("message", ""))
    assert found["status"]["phase"] == "Progressing"
    assert bed.api.find(f"/api/v1/namespaces/{place}/configmaps/under") is not None, "its turn has not come"
    bed.api.request("PATCH", stack.path, {"spec": {"deletionPolicy": "Orphan"}}, content_type=MERGE)
    bed.until(stack.path, lambda found: found is None)
    assert bed.api.find(f"/api/v1/namespaces/{place}/configmaps/under") is not None


def test_a_stack_that_goes_takes_its_layers_objects_with_it(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "app", "manifests": [config_map("app", place)]})
    stack.ready()
    stack.delete()
    bed.until(stack.layer_path("app"), lambda found: found is None)


@pytest.mark.parametrize("policy", ["Orphan", "Delete"])
def test_deleting_our_own_crd_takes_nothing_else_with_it(lone: Bed, policy: str) -> None:
    place = unique("town")
    stack = lone.stack(
        {"name": "app", "manifests": [namespace(place), config_map("app", place)]}, deletionPolicy=policy
    )
    stack.ready()
    definition: Any = lone.api.get(f"{CRDS}/clusterstacks.clusterstack.dev")
    lone.api.delete(f"{CRDS}/clusterstacks.clusterstack.dev")
    lone.until(f"{CRDS}/clusterstacks.clusterstack.dev", lambda found: found is None)
    assert lone.api.get(f"/api/v1/namespaces/{place}")["status"]["phase"] == "Active"
    uid = lone.api.get(f"/api/v1/namespaces/{place}/configmaps/app")["metadata"]["uid"]
    fresh = {"name": definition["metadata"]["name"]}
    lone.api.create(CRDS, {**definition, "metadata": fresh, "status": {}})
    lone.until(STACKS, lambda found: found is not None)
    stack.apply()
    stack.ready()
    assert lone.api.get(f"/api/v1/namespaces/{place}/configmaps/app")["metadata"]["uid"] == uid
    lone.stacks.clear()
