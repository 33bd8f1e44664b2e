"""What is wrong with one stack, one layer or one object is nobody else's trouble."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from testbed.api import ApiError
from testbed.gitrepo import GitRepository

from .bed import Bed, Manifest, Stack, condition, config_map, settle
from .objects import CRDS, deployment, source, text

pytestmark = pytest.mark.e2e

MERGE = "application/merge-patch+json"

POISON = {
    "a name that is a number": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 12}\n",
    "a kind that is a number": "apiVersion: v1\nkind: 7\nmetadata: {name: poison}\n",
    "labels that are a list": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: poison, labels: [a, b]}\n",
    "a label that is a boolean": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: poison, labels: {a: true}}\n",
    "metadata that is a text": "apiVersion: v1\nkind: ConfigMap\nmetadata: poison\n",
    "a spec that is a text": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: poison}\nspec: nonsense\n",
    "an endless alias": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
    "a version from nowhere": "apiVersion: a/b/c/d\nkind: ConfigMap\nmetadata: {name: poison}\n",
    "a CRD of nothing": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.b}\n",
    "a list of a list": "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: [3]}]\n",
    "a Kustomization of itself": "kind: Kustomization\nresources: [../app]\n",
    "a release of nothing": "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: poison}\n",
}


def map_path(place: str, name: str = "good") -> str:
    return f"/api/v1/namespaces/{place}/configmaps/{name}"


def healthy(bed: Bed, place: str) -> Stack:
    """Another stack, Ready."""
    stack = bed.stack({"name": "good", "manifests": [config_map("good", place, size="1")]})
    stack.ready()
    return stack


def at_work(bed: Bed, stack: Stack, place: str) -> None:
    """A stack still corrects drift and takes new content."""
    bed.api.delete(map_path(place))
    bed.until(map_path(place), lambda found: found is not None)
    stack.edit("good", manifests=[config_map("good", place, size="2")])
    bed.until(map_path(place), lambda found: found is not None and found["data"] == {"size": "2"})


@pytest.mark.parametrize("poison", POISON)
def test_an_object_of_no_proper_shape_fails_its_own_layer_alone(bed: Bed, git: GitRepository, poison: str) -> None:
    place = bed.namespace()
    git.commit("Poison", {"app/kustomization.yaml" if "itself" in poison else "app/poison.yaml": POISON[poison]})
    stack = bed.stack(
        {"name": "app", "path": "app", "targetNamespace": place},
        {"name": "good", "manifests": [config_map("good", place, size="1")]},
        sources=source(git),
    )
    status = stack.phase("app", "Failed")
    assert status["message"].removeprefix("failed: ")
    assert "InternalError" not in status["message"]
    stack.ready("good")
    at_work(bed, stack, place)
    assert not [line for line in bed.operator.lines() if line["level"] == "error" and stack.name in str(line)]


def test_a_number_that_substitution_makes_of_a_name_fails_its_own_layer_alone(bed: Bed, git: GitRepository) -> None:
    place = bed.namespace()
    git.commit("Number", {"app/app.yaml": text(config_map("${name}", place))})
    stack = bed.stack(
        {"name": "app", "path": "app", "postBuild": {"substitute": {"name": "5"}}},
        {"name": "good", "manifests": [config_map("good", place, size="1")]},
        sources=source(git),
    )
    assert "metadata.name" in stack.phase("app", "Failed")["message"]
    at_work(bed, stack, place)


def test_variables_that_are_no_text_fail_their_own_layer_alone(bed: Bed) -> None:
    place = bed.namespace()
    binary = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "vars", "namespace": place},
        "binaryData": {"word": "//79/A=="},
    }
    bed.api.create(f"/api/v1/namespaces/{place}/configmaps", binary)
    reference = {"kind": "ConfigMap", "name": "vars", "namespace": place}
    stack = bed.stack(
        {
            "name": "app",
            "manifests": [config_map("app", place, a="${word}")],
            "postBuild": {"substituteFrom": [reference]},
        },
        {"name": "good", "manifests": [config_map("good", place, size="1")]},
    )
    stack.phase("app", "Failed", says="word")
    at_work(bed, stack, place)


def test_a_stack_full_of_trouble_does_not_slow_its_neighbour_down(bed: Bed) -> None:
    place, other = bed.namespace(), bed.namespace()
    trouble = [
        {"name": f"t-{number}", "manifests": [deployment(f"d-{number}", place, runs=False)], "timeout": "1s"}
        for number in range(10)
    ]
    trouble += [{"name": f"f-{number}", "manifests": [config_map(f"Bad_{number}", place)]} for number in range(10)]
    stack = bed.stack(*trouble)
    stack.phase("f-9", "Failed")
    good = healthy(bed, other)
    at_work(bed, good, other)


def permissive(bed: Bed) -> Any:
    """Have the API server take any spec of a ClusterStack, as an older or newer version of the CRD might; the CRD."""
    path = f"{CRDS}/clusterstacks.clusterstack.dev"
    definition = bed.api.get(path)
    patch = [
        {
            "op": "replace",
            "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
            "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        }
    ]
    bed.api.request("PATCH", path, patch, content_type="application/json-patch+json")
    return definition


def test_a_stack_that_does_not_parse_is_told_so_and_no_other_is_disturbed(lone: Bed) -> None:
    place = lone.namespace()
    good = healthy(lone, place)
    bad = lone.stack({"name": "app", "manifests": [config_map("bad", place)]})
    bad.ready()
    permissive(lone)

    def broken(spec: Manifest) -> None:
        lone.api.request("PATCH", bad.path, {"spec": spec}, content_type=MERGE)

    def told(found: Any) -> bool:
        seen = condition(found, "Stalled")
        return seen.get("status") == "True" and "interval" in seen["message"]

    def accepted(found: Any) -> bool:
        with contextlib.suppress(ApiError):
            broken({"interval": "soon"})
        return bool(found["spec"]["interval"] == "soon")

    lone.until(bad.path, accepted)  # the new schema takes a moment to be in force
    found = lone.until(bad.path, told)
    assert condition(found, "Ready")["status"] == "False"
    lone.api.delete(map_path(place, "bad"))
    lone.until(map_path(place, "bad"), lambda found: found is not None)
    at_work(lone, good, place)
    broken({"interval": "10m", "layers": "none at all"})
    lone.until(bad.path, lambda found: "layers" in condition(found, "Stalled").get("message", ""))
    at_work(lone, good, place)
    lone.restart()
    settle(1)
    at_work(lone, good, place)
    broken({"layers": [{"name": "app", "manifests": [config_map("bad", place, size="9")]}]})
    lone.until(map_path(place, "bad"), lambda found: found is not None and found.get("data") == {"size": "9"})
    lone.until(bad.path, lambda found: condition(found, "Stalled")["status"] == "False")
    lone.stacks.clear()
