"""Objects that several layers render have one owner, and are applied once."""

from __future__ import annotations

from typing import Any

from clusterstack.core.content import Claim, merge
from clusterstack.core.objects import Manifest, ObjectRef, ref_of


def shared(**labels: str) -> tuple[ObjectRef, Manifest]:
    manifest: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": labels}}
    return ref_of(manifest), manifest


REF = shared()[0]


def labels(objects: list[tuple[ObjectRef, Manifest]]) -> dict[str, str]:
    return dict(objects[0][1]["metadata"]["labels"])


def test_the_first_layer_owns_an_object_and_wins_conflicts_and_the_union_is_applied() -> None:
    merged = merge([("one", [shared(a="1", b="1")]), ("two", [shared(b="2", c="2")])])
    assert labels(merged["one"][0]) == {"a": "1", "b": "1", "c": "2"}
    assert merged["two"] == ([], [Claim(REF, "one")])


def test_within_a_layer_the_last_document_of_an_object_wins() -> None:
    assert labels(merge([("one", [shared(a="1"), shared(b="2")])])["one"][0]) == {"b": "2"}


def test_what_a_broken_layer_has_stays_its_own_whoever_else_renders_it() -> None:
    merged = merge([("one", [shared(a="1")])], held={REF: "two"})
    assert merged["one"] == ([], [Claim(REF, "two")])


def test_what_a_broken_layer_says_of_the_objects_of_others_still_counts() -> None:
    merged = merge([("one", [shared(a="1")]), ("broken", [shared(b="2")])])
    assert labels(merged["one"][0]) == {"a": "1", "b": "2"}
