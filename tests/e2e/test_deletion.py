"""Whose objects a deleted stack may take with it."""

from __future__ import annotations

from typing import Any

import pytest

from .bed import Bed, Manifest, config_map, unique

pytestmark = pytest.mark.e2e


def namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def gone(found: Any) -> bool:
    return found is None


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


def test_a_stack_that_is_made_again_takes_its_objects_back(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "one", "manifests": [config_map("kept", place, a="b")]})
    stack.ready()
    uid = bed.api.get(f"/api/v1/namespaces/{place}/configmaps/kept")["metadata"]["uid"]
    stack.delete()
    stack.apply()
    stack.ready()
    assert bed.api.get(f"/api/v1/namespaces/{place}/configmaps/kept")["metadata"]["uid"] == uid
