"""What identifies an object must have its proper shape before anything else looks at it."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.shape import flaw


def manifest(**changes: Any) -> dict[str, Any]:
    good = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"a": "b"}}}
    return {key: value for key, value in {**good, **changes}.items() if value is not ...}


def test_a_proper_object_has_no_flaw() -> None:
    assert flaw(manifest()) == ""
    assert flaw(manifest(apiVersion="apps/v1", metadata={"name": "a", "namespace": "b", "annotations": None})) == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"apiVersion": ...}, "apiVersion is missing, not a text"),
        ({"apiVersion": "a/b/c"}, "apiVersion 'a/b/c' is neither a version nor group/version"),
        ({"kind": 7}, "kind is a number, not a text"),
        ({"kind": ""}, "kind is empty, not a text"),
        ({"metadata": "x"}, "metadata is a text, not a map"),
        ({"metadata": ...}, "metadata is missing, not a map"),
        ({"metadata": {}}, "metadata.name is missing, and an object that is kept up needs a name of its own"),
        ({"metadata": {"generateName": "a-"}}, "metadata.name is generateName, and an object that is kept up needs"),
        ({"metadata": {"name": 5}}, "metadata.name is a number"),
        ({"metadata": {"name": "a", "namespace": ["b"]}}, "metadata.namespace is a list, not a text"),
        ({"metadata": {"name": "a", "labels": ["b"]}}, "metadata.labels is a list, not a map"),
        ({"metadata": {"name": "a", "labels": {"b": True}}}, "metadata.labels.b is a boolean, not a text"),
        ({"metadata": {"name": "a", "annotations": {"b": {}}}}, "metadata.annotations.b is a map, not a text"),
    ],
)
def test_a_flaw_is_named_by_its_field(changes: dict[str, Any], says: str) -> None:
    assert flaw(manifest(**changes)).startswith(says)
