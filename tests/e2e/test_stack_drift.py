"""What others do to our objects: corrected, shown, or let be; and what is theirs is never touched."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from testbed import tools

from .bed import Bed, Manifest, Stack, condition, config_map, secret, settle
from .objects import deployment

pytestmark = pytest.mark.e2e

MERGE = "application/merge-patch+json"


def path(place: str, name: str = "app", kind: str = "configmaps") -> str:
    return f"/api/v1/namespaces/{place}/{kind}/{name}"


def kubectl(bed: Bed, *arguments: str) -> None:
    """The real kubectl, as a person would use it."""
    argv = [str(tools.binary("kubectl")), "--kubeconfig", str(bed.plane.kubeconfig), *arguments]
    subprocess.run(argv, check=True, capture_output=True, timeout=30)


def data(found: Any) -> Any:
    return (found or {}).get("data")


def one(bed: Bed, place: str, **more: Any) -> Stack:
    """A stack with one ConfigMap, Ready."""
    stack = bed.stack({"name": "app", "manifests": [config_map("app", place, size="1")], **more})
    stack.ready()
    return stack


def change(bed: Bed, place: str, manager: str = "meddler", **fields: str | None) -> None:
    bed.api.request("PATCH", f"{path(place)}?fieldManager={manager}", {"data": fields}, content_type=MERGE)


def drift(stack: Stack, says: str) -> Manifest:
    """The layer, once its Drifted condition is there and says this."""

    def holds(found: Any) -> bool:
        seen = condition(found, "Drifted")
        return seen.get("status") == "True" and says in seen["message"]

    return dict(stack.bed.until(stack.layer_path("app"), holds))


def undrifted(stack: Stack) -> None:
    stack.bed.until(stack.layer_path("app"), lambda found: condition(found, "Drifted") == {})


def test_a_field_that_kubectl_changes_is_put_right(bed: Bed) -> None:
    place = bed.namespace()
    one(bed, place)
    kubectl(bed, "-n", place, "patch", "configmap", "app", "--type=merge", "-p", '{"data": {"size": "2"}}')
    bed.until(path(place), lambda found: data(found) == {"size": "1"})


def test_a_field_that_kubectl_takes_over_by_force_is_taken_back(bed: Bed) -> None:
    place = bed.namespace()
    one(bed, place)
    bed.api.apply(path(place), config_map("app", place, size="7", theirs="yes"), manager="kubectl")
    bed.until(path(place), lambda found: data(found) == {"size": "1", "theirs": "yes"})


def test_fields_of_others_are_left_alone(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place)
    since = bed.plane.audit_offset()
    change(bed, place, theirs="yes")
    patch = {"metadata": {"labels": {"theirs": "yes"}, "annotations": {"theirs": "yes"}}}
    bed.api.request("PATCH", path(place), patch, content_type=MERGE)
    stack.reconcile()
    settle(1)
    assert [line for line in bed.writes(since) if place in line] == []
    found = bed.api.get(path(place))
    assert found["data"] == {"size": "1", "theirs": "yes"}
    assert found["metadata"]["labels"]["theirs"] == "yes"


def test_a_secret_is_put_right_although_its_content_is_never_read(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "app", "manifests": [secret("app", place, word="open")]})
    stack.ready()
    where = path(place, kind="secrets")
    right = bed.api.get(where)["data"]
    bed.api.request("PATCH", where, {"stringData": {"word": "shut"}}, content_type=MERGE)
    bed.until(where, lambda found: data(found) == right)


def test_a_label_of_ours_that_is_taken_off_comes_back(bed: Bed) -> None:
    place = bed.namespace()
    one(bed, place)
    kubectl(bed, "-n", place, "label", "configmap", "app", "clusterstack.dev/stack-", "clusterstack.dev/layer-")
    bed.until(path(place), lambda found: "clusterstack.dev/stack" in (found["metadata"].get("labels") or {}))


def test_an_object_that_is_deleted_is_made_anew(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place)
    before = bed.api.get(path(place))["metadata"]["uid"]
    kubectl(bed, "-n", place, "delete", "configmap", "app")
    bed.until(path(place), lambda found: found is not None and found["metadata"]["uid"] != before)
    stack.ready()


def test_an_object_held_by_a_finalizer_is_made_anew_once_it_is_gone(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place)
    bed.api.request("PATCH", path(place), {"metadata": {"finalizers": ["example.org/hold"]}}, content_type=MERGE)
    bed.api.delete(path(place))
    stack.phase("app", "Progressing", says=f"ConfigMap {place}/app")
    before = bed.api.get(path(place))["metadata"]["uid"]
    bed.api.request("PATCH", path(place), {"metadata": {"finalizers": []}}, content_type=MERGE)
    bed.until(path(place), lambda found: found is not None and found["metadata"]["uid"] != before)
    stack.ready()


def test_a_namespace_that_is_deleted_comes_back_with_all_that_was_in_it(bed: Bed) -> None:
    place = f"{bed.namespace()}-own"
    own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}}
    stack = bed.stack({"name": "app", "manifests": [own, config_map("app", place, size="1")]})
    stack.ready()
    before = bed.api.get(f"/api/v1/namespaces/{place}")["metadata"]["uid"]
    bed.api.delete(f"/api/v1/namespaces/{place}")
    bed.until(f"/api/v1/namespaces/{place}", lambda found: found is not None and found["metadata"]["uid"] != before)
    bed.until(path(place), lambda found: data(found) == {"size": "1"})
    stack.ready()


def test_what_an_autoscaler_owns_is_not_fought_over(bed: Bed) -> None:
    place = bed.namespace()
    app = deployment("app", place)
    del app["spec"]["replicas"]
    stack = bed.stack({"name": "app", "manifests": [app]})
    stack.ready()
    since = bed.plane.audit_offset()
    where = f"/apis/apps/v1/namespaces/{place}/deployments/app"
    bed.api.request("PATCH", where, {"spec": {"replicas": 3}}, content_type=MERGE)
    bed.until(where, lambda found: (found.get("status") or {}).get("readyReplicas") == 3)
    stack.reconcile()
    assert [line for line in bed.writes(since) if place in line] == []
    assert bed.api.get(where)["spec"]["replicas"] == 3


def test_a_hundred_objects_changed_at_once_are_put_right(bed: Bed) -> None:
    place = bed.namespace()
    names = [f"app-{number}" for number in range(100)]
    stack = bed.stack({"name": "app", "manifests": [config_map(name, place, size="1") for name in names]})
    stack.ready()
    for name in names:
        bed.api.request("PATCH", path(place, name), {"data": {"size": "2"}}, content_type=MERGE)

    def right(found: Any) -> bool:
        return all(item["data"] == {"size": "1"} for item in found["items"] if item["metadata"]["name"] in names)

    bed.until(f"/api/v1/namespaces/{place}/configmaps", right)


def test_drift_that_is_only_reported_is_named_and_stays(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place, drift={"mode": "Report"})
    since = bed.plane.audit_offset()
    change(bed, place, size="2")
    found = drift(stack, f"ConfigMap {place}/app")
    assert "meddler" in condition(found, "Drifted")["message"]
    assert found["status"]["phase"] == "Ready"
    stack.reconcile()
    assert [line for line in bed.writes(since) if place in line] == []
    assert data(bed.api.get(path(place))) == {"size": "2"}
    bed.until(stack.path, lambda found: condition(found, "Drifted").get("status") == "True")
    stack.edit("app", drift={"mode": "Correct"})
    bed.until(path(place), lambda found: data(found) == {"size": "1"})
    undrifted(stack)


def test_new_content_is_applied_over_reported_drift(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place, drift={"mode": "Report"})
    change(bed, place, size="2")
    drift(stack, "app")
    stack.edit("app", manifests=[config_map("app", place, size="3")])
    bed.until(path(place), lambda found: data(found) == {"size": "3"})
    undrifted(stack)


def test_a_deleted_object_is_made_anew_whatever_the_drift_mode(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place, drift={"mode": "Report"})
    bed.api.delete(path(place))
    bed.until(path(place), lambda found: data(found) == {"size": "1"})
    stack.ready()


def test_ignored_drift_is_neither_shown_nor_corrected(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place, drift={"mode": "Ignore"})
    since = bed.plane.audit_offset()
    change(bed, place, size="2")
    stack.reconcile()
    settle(1)
    assert [line for line in bed.writes(since) if place in line] == []
    assert condition(bed.api.get(stack.layer_path("app")), "Drifted") == {}


def test_after_five_corrections_the_other_writer_is_named_and_no_longer_fought(bed: Bed) -> None:
    place = bed.namespace()
    stack = one(bed, place)
    for number in range(5):
        change(bed, place, size=f"theirs-{number}")
        bed.until(path(place), lambda found: data(found) == {"size": "1"})
    change(bed, place, size="theirs-at-last")
    found = drift(stack, f"ConfigMap {place}/app")
    assert "meddler" in condition(found, "Drifted")["message"]
    since = bed.plane.audit_offset()
    stack.reconcile()
    settle(1)
    assert [line for line in bed.writes(since) if place in line] == []
    assert data(bed.api.get(path(place))) == {"size": "theirs-at-last"}
    stack.edit("app", manifests=[config_map("app", place, size="9")])
    bed.until(path(place), lambda found: data(found) == {"size": "9"})
    undrifted(stack)


def test_an_object_that_is_to_be_made_once_is_not_touched_again(bed: Bed) -> None:
    place = bed.namespace()
    made = config_map("app", place, size="1")
    made["metadata"]["annotations"] = {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}
    stack = bed.stack({"name": "app", "manifests": [made]})
    stack.ready()
    change(bed, place, size="2")
    stack.reconcile()
    settle(1)
    assert data(bed.api.get(path(place))) == {"size": "2"}
