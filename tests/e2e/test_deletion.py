"""What becomes of the objects when their stack is deleted."""

from __future__ import annotations

from typing import Any

import pytest

from .bed import Bed, Manifest, config_map, unique

pytestmark = pytest.mark.e2e


def namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def gone(found: Any) -> bool:
    return found is None


def test_orphan_leaves_everything_where_it_is(bed: Bed) -> None:
    place = unique("place")
    stack = bed.stack({"name": "one", "manifests": [namespace(place), config_map("kept", place, a="b")]})
    stack.ready()
    stack.delete()
    found = bed.api.get(f"/api/v1/namespaces/{place}/configmaps/kept")
    assert found["data"] == {"a": "b"}
    assert not found["metadata"].get("deletionTimestamp")


def test_delete_takes_the_last_layer_first(bed: Bed) -> None:
    place = unique("place")
    stack = bed.stack(
        {"name": "one", "manifests": [namespace(place), config_map("first", place)]},
        {"name": "two", "dependsOn": ["one"], "manifests": [config_map("second", place)]},
        {"name": "three", "dependsOn": ["two"], "manifests": [config_map("third", place)]},
        deletionPolicy="Delete",
    )
    stack.ready()
    since = bed.plane.audit_offset()
    stack.delete()
    bed.until(f"/api/v1/namespaces/{place}", gone)
    deleted = [line for line in bed.writes(since) if line.startswith("delete") and place in line]
    assert [line.rpartition("/")[2] for line in deleted] == ["third", "second", "first", place]


def test_delete_leaves_what_it_did_not_create(bed: Bed) -> None:
    place = bed.namespace()
    bed.api.create(f"/api/v1/namespaces/{place}/configmaps", config_map("theirs", place, a="b"))
    stack = bed.stack(
        {"name": "one", "manifests": [config_map("theirs", place, a="b"), config_map("ours", place)]},
        deletionPolicy="Delete",
    )
    stack.ready()
    stack.delete()
    bed.until(f"/api/v1/namespaces/{place}/configmaps/ours", gone)
    assert bed.api.get(f"/api/v1/namespaces/{place}/configmaps/theirs")["data"] == {"a": "b"}


def test_delete_keeps_a_namespace_that_holds_something_foreign(bed: Bed) -> None:
    place = unique("place")
    stack = bed.stack(
        {"name": "one", "manifests": [namespace(place), config_map("ours", place)]}, deletionPolicy="Delete"
    )
    stack.ready()
    bed.api.create(f"/api/v1/namespaces/{place}/configmaps", config_map("theirs", place))
    stack.delete()
    assert bed.api.find(f"/api/v1/namespaces/{place}/configmaps/ours") is None
    assert bed.api.get(f"/api/v1/namespaces/{place}")["status"]["phase"] == "Active"
    assert bed.api.find(f"/api/v1/namespaces/{place}/configmaps/theirs") is not None


def test_delete_never_takes_claims_for_storage(bed: Bed) -> None:
    place = bed.namespace()
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": place},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    stack = bed.stack({"name": "one", "manifests": [claim], "health": {"policy": "Exists"}}, deletionPolicy="Delete")
    stack.ready()
    stack.delete()
    found = bed.api.get(f"/api/v1/namespaces/{place}/persistentvolumeclaims/data")
    assert not found["metadata"].get("deletionTimestamp")


def test_a_stack_that_is_made_again_takes_its_objects_back(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "one", "manifests": [config_map("kept", place, a="b")]})
    stack.ready()
    uid = bed.api.get(f"/api/v1/namespaces/{place}/configmaps/kept")["metadata"]["uid"]
    stack.delete()
    stack.apply()
    stack.ready()
    assert bed.api.get(f"/api/v1/namespaces/{place}/configmaps/kept")["metadata"]["uid"] == uid
