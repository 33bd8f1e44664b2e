"""What is no longer wanted goes, but only with proof, and never what must stay."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.gitrepo import GitRepository

from .bed import Bed, Stack, condition, config_map, settle, unique
from .objects import claim, crd, namespace, source, text

pytestmark = pytest.mark.e2e

MERGE = "application/merge-patch+json"


def path(place: str, name: str, kind: str = "configmaps") -> str:
    return f"/api/v1/namespaces/{place}/{kind}/{name}"


def gone(found: Any) -> bool:
    return found is None


def uid(bed: Bed, place: str, name: str) -> str:
    return str(bed.api.get(path(place, name))["metadata"]["uid"])


def swept(stack: Stack, place: str) -> None:
    """Wait until a sweep of the stack has come by: an object made to be deleted by it is gone."""
    bed, name = stack.bed, unique("canary")
    stack.apply(layers=[*stack.spec["layers"], {"name": name, "manifests": [config_map(name, place)]}])
    stack.ready()
    stack.apply(layers=[one for one in stack.spec["layers"] if one["name"] != name])
    bed.until(path(place, name), gone)


def test_an_object_that_left_the_repository_is_deleted(bed: Bed, git: GitRepository) -> None:
    place = bed.namespace()
    git.commit("Two", {"app/one.yaml": text(config_map("one", place)), "app/two.yaml": text(config_map("two", place))})
    stack = bed.stack({"name": "app", "path": "app"}, sources=source(git))
    stack.ready()
    git.commit("One", {"app/two.yaml": None})
    bed.until(path(place, "two"), gone)
    assert bed.api.find(path(place, "one")) is not None
    bed.until(stack.layer_path("app"), lambda found: found["status"]["objects"]["total"] == 1)


def test_namespaces_crds_claims_and_what_asks_for_it_are_never_pruned(bed: Bed) -> None:
    place, group = unique("kept"), f"{unique('kept')}.example.org"
    ours, flux = config_map("ours", place), config_map("flux", place)
    ours["metadata"]["annotations"] = {"clusterstack.dev/prune": "disabled"}
    flux["metadata"]["annotations"] = {"kustomize.toolkit.fluxcd.io/prune": "disabled"}
    stays = [namespace(place), crd("Widget", group), claim("data", place), ours, flux]
    first = config_map("first", place)
    stack = bed.stack({"name": "app", "manifests": [*stays, first], "health": {"policy": "Exists"}})
    stack.ready()
    stack.edit("app", manifests=[config_map("second", place)])
    bed.until(path(place, "first"), gone)
    swept(stack, place)
    for where in (
        f"/api/v1/namespaces/{place}",
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}",
        path(place, "data", "persistentvolumeclaims"),
        path(place, "ours"),
        path(place, "flux"),
    ):
        assert not bed.api.get(where)["metadata"].get("deletionTimestamp"), where


def test_what_we_did_not_create_is_let_go_but_not_deleted(bed: Bed) -> None:
    place = bed.namespace()
    bed.api.create(f"/api/v1/namespaces/{place}/configmaps", config_map("theirs", place, a="b"))
    stack = bed.stack({"name": "app", "manifests": [config_map("theirs", place, a="b"), config_map("ours", place)]})
    stack.ready()
    stack.edit("app", manifests=[config_map("other", place)])
    bed.until(path(place, "ours"), gone)
    assert bed.api.get(path(place, "theirs"))["data"] == {"a": "b"}


def test_an_object_that_somebody_made_anew_in_our_place_is_not_deleted(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "app", "manifests": [config_map("app", place), config_map("other", place)]})
    stack.ready()
    bed.operator.stop()
    try:
        bed.api.delete(path(place, "app"))
        bed.api.create(f"/api/v1/namespaces/{place}/configmaps", config_map("app", place, theirs="yes"))
        stack.edit("app", manifests=[config_map("third", place)])
    finally:
        bed.operator.start()
    bed.until(path(place, "other"), gone)
    assert bed.api.get(path(place, "app"))["data"] == {"theirs": "yes"}


def test_a_copy_that_carries_our_labels_and_marks_is_not_deleted(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "app", "manifests": [config_map("app", place), config_map("other", place)]})
    stack.ready()
    marks = bed.api.get(path(place, "app"))["metadata"]
    copy = config_map("copy", place)
    copy["metadata"] |= {"labels": marks["labels"], "annotations": marks["annotations"]}
    bed.api.create(f"/api/v1/namespaces/{place}/configmaps", copy)
    stack.edit("app", manifests=[config_map("other", place)])
    bed.until(path(place, "app"), gone)
    swept(stack, place)
    assert bed.api.find(path(place, "copy")) is not None


def test_an_object_that_moves_to_another_layer_keeps_its_identity(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        {"name": "one", "manifests": [config_map("stays", place), config_map("moves", place)]},
        {"name": "two", "manifests": [config_map("other", place)]},
    )
    stack.ready()
    before = uid(bed, place, "moves")
    stack.spec["layers"][0]["manifests"] = [config_map("stays", place)]
    stack.edit("two", manifests=[config_map("other", place), config_map("moves", place)])
    stack.ready()
    swept(stack, place)
    found = bed.api.get(path(place, "moves"))["metadata"]
    assert found["uid"] == before
    assert found["labels"]["clusterstack.dev/layer"] == "two"
    stack.edit("two", manifests=[config_map("other", place)])
    bed.until(path(place, "moves"), gone)


def test_a_layer_that_is_renamed_keeps_its_objects(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        {"name": "old", "manifests": [config_map("one", place), config_map("two", place)]},
        {"name": "next", "dependsOn": ["old"], "manifests": [config_map("three", place)]},
    )
    stack.ready()
    before = [uid(bed, place, name) for name in ("one", "two", "three")]
    since = bed.plane.audit_offset()
    stack.spec["layers"][0]["name"] = "new"
    stack.edit("next", dependsOn=["new"])
    stack.ready()
    bed.until(stack.layer_path("old"), gone)
    swept(stack, place)
    assert [uid(bed, place, name) for name in ("one", "two", "three")] == before
    deleted = [line for line in bed.writes(since) if line.startswith(f"delete configmaps {place}/")]
    assert [line for line in deleted if "canary" not in line] == []


def test_what_a_removed_layer_had_goes_and_so_does_its_book(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        {"name": "one", "manifests": [config_map("one", place)]},
        {"name": "two", "manifests": [config_map("two", place), config_map("three", place)]},
    )
    stack.ready()
    stack.apply(layers=stack.spec["layers"][:1])
    for name in ("two", "three"):
        bed.until(path(place, name), gone)
    bed.until(stack.layer_path("two"), gone)
    bed.until(path("clusterstack", f"clusterstack.{stack.name}.two.0"), gone)
    assert bed.api.find(path(place, "one")) is not None


def test_an_empty_directory_deletes_nothing_and_says_so(bed: Bed, git: GitRepository) -> None:
    place = bed.namespace()
    git.commit(
        "Two",
        {
            "app/kustomization.yaml": "resources: [one.yaml]\n",
            "app/one.yaml": text(config_map("one", place)),
            "other/two.yaml": text(config_map("two", place), config_map("three", place)),
        },
    )
    stack = bed.stack({"name": "app", "path": "app"}, {"name": "other", "path": "other"}, sources=source(git))
    stack.ready()
    git.commit("Nothing", {"app/kustomization.yaml": "resources: []\n"})

    def blocked(found: Any) -> bool:
        return condition(found, "PruneBlocked").get("status") == "True"

    found = bed.until(stack.layer_path("app"), blocked)
    assert f"ConfigMap {place}/one" in condition(found, "PruneBlocked")["message"]
    bed.until(stack.path, blocked)
    git.commit("Drop one elsewhere", {"other/two.yaml": text(config_map("two", place))})
    bed.until(path(place, "three"), gone)
    assert bed.api.find(path(place, "one")) is not None
    git.commit("It was a mistake", {"app/kustomization.yaml": "resources: [one.yaml]\n"})
    bed.until(stack.layer_path("app"), lambda found: condition(found, "PruneBlocked") == {})
    bed.until(stack.path, lambda found: condition(found, "PruneBlocked") == {})


def test_a_broken_layer_holds_the_sweep_back_until_it_is_known_again(bed: Bed, git: GitRepository) -> None:
    place = bed.namespace()
    git.commit(
        "Start",
        {
            "one/one.yaml": text(config_map("one", place)),
            "one/moves.yaml": text(config_map("moves", place)),
            "two/two.yaml": text(config_map("two", place)),
        },
    )
    stack = bed.stack({"name": "one", "path": "one"}, {"name": "two", "path": "two"}, sources=source(git))
    stack.ready()
    before = uid(bed, place, "moves")
    git.commit("Move, clumsily", {"one/moves.yaml": None, "two/moves.yaml": "kind: [\n"})
    stack.phase("two", "Failed", says="moves.yaml")
    bed.until(stack.layer_path("one"), lambda found: found["status"]["objects"]["total"] == 1)
    settle(1)
    assert uid(bed, place, "moves") == before
    git.commit("Move", {"two/moves.yaml": text(config_map("moves", place))})
    stack.ready()
    bed.until(path(place, "moves"), lambda found: found["metadata"]["labels"]["clusterstack.dev/layer"] == "two")
    assert uid(bed, place, "moves") == before


def test_a_layer_may_keep_what_it_no_longer_contains(bed: Bed) -> None:
    place = bed.namespace()
    manifests = [config_map("one", place), config_map("two", place)]
    stack = bed.stack({"name": "app", "manifests": manifests, "prune": {"enabled": False}})
    stack.ready()
    stack.edit("app", manifests=manifests[:1])
    stack.ready()
    swept(stack, place)
    assert bed.api.find(path(place, "two")) is not None


def test_what_was_deleted_while_the_operator_was_away_is_deleted_when_it_is_back(bed: Bed, git: GitRepository) -> None:
    place = bed.namespace()
    git.commit("Two", {"app/one.yaml": text(config_map("one", place)), "app/two.yaml": text(config_map("two", place))})
    stack = bed.stack({"name": "app", "path": "app"}, sources=source(git))
    stack.ready()
    bed.operator.stop()
    git.commit("One", {"app/two.yaml": None})
    bed.operator.start()
    bed.until(path(place, "two"), gone)
    assert bed.api.find(path(place, "one")) is not None


def test_a_finalizer_that_hangs_holds_up_nothing_but_its_own_object(bed: Bed) -> None:
    place = bed.namespace()
    held = config_map("held", place)
    held["metadata"]["finalizers"] = ["example.org/hold"]
    stack = bed.stack({"name": "app", "manifests": [held, config_map("free", place), config_map("stays", place)]})
    stack.ready()
    stack.edit("app", manifests=[config_map("stays", place)])
    bed.until(path(place, "free"), gone)
    stack.ready()
    assert bed.api.get(path(place, "held"))["metadata"]["deletionTimestamp"]
    bed.api.request("PATCH", path(place, "held"), {"metadata": {"finalizers": []}}, content_type=MERGE)
    bed.until(path(place, "held"), gone)
