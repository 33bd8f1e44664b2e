"""What a layer waits for, how it says so, and that it goes on by itself."""

from __future__ import annotations

from typing import Any

import pytest

from .bed import Bed, Manifest, Stack, condition, config_map, secret, settle, unique
from .objects import CRDS, crd, custom, deployment, let_run, namespace

pytestmark = pytest.mark.e2e


def maps(place: str, name: str) -> str:
    return f"/api/v1/namespaces/{place}/configmaps/{name}"


def layer(name: str, place: str, **more: Any) -> Manifest:
    """A layer of one ConfigMap that has its name."""
    return {"name": name, "manifests": [config_map(name, place, size="1")], **more}


def reference(kind: str, place: str, name: str, api_version: str = "v1") -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "name": name, "namespace": place}


def message(stack: Stack, says: str) -> str:
    """The one line in which the stack says what it waits for, once it says this."""
    found = stack.bed.until(stack.path, lambda found: says in _summary(found))
    return _summary(found)


def _summary(found: Any) -> str:
    return str(((found.get("status") or {}).get("summary") or {}).get("message", ""))


def test_a_required_object_that_is_missing_is_waited_for_and_named(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(layer("app", place, requires=[reference("Secret", place, "token")]))
    status = stack.phase("app", "Waiting", says=f"Secret {place}/token")
    assert condition({"status": status}, "Stalled")["status"] == "False"
    blocker = status["waitingOn"][0]
    assert (blocker["kind"], blocker["namespace"], blocker["name"]) == ("Secret", place, "token")
    assert blocker["reason"] == "NotFound"
    assert f"Secret {place}/token" in message(stack, "token")
    assert bed.api.find(maps(place, "app")) is None
    bed.api.create(f"/api/v1/namespaces/{place}/secrets", secret("token", place))
    stack.ready()


def test_a_required_deployment_is_waited_for_until_it_runs(bed: Bed) -> None:
    place = bed.namespace()
    bed.api.create(f"/apis/apps/v1/namespaces/{place}/deployments", deployment("engine", place, runs=False))
    stack = bed.stack(layer("app", place, requires=[reference("Deployment", place, "engine", "apps/v1")]))
    stack.phase("app", "Waiting", says=f"Deployment {place}/engine")
    let_run(bed.api, "engine", place)
    stack.ready()


def test_a_required_object_of_a_kind_that_comes_later_is_waited_for(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('late')}.example.org"
    stack = bed.stack(layer("app", place, requires=[reference("Widget", place, "one", f"{group}/v1")]))
    stack.phase("app", "Waiting", says="not served")
    definition = crd("Widget", group)
    bed.api.create(CRDS, definition)
    stack.phase("app", "Waiting", says=f"Widget {place}/one")
    collection = f"/apis/{group}/v1/namespaces/{place}/widgets"
    bed.until(collection, lambda found: found is not None)
    bed.api.create(collection, custom("Widget", group, "one", place))
    stack.ready()


def test_what_a_ready_layer_required_may_go_without_disturbing_it(bed: Bed) -> None:
    place = bed.namespace()
    bed.api.create(f"/api/v1/namespaces/{place}/secrets", secret("token", place))
    stack = bed.stack(layer("app", place, requires=[reference("Secret", place, "token")]))
    stack.ready()
    bed.api.delete(f"/api/v1/namespaces/{place}/secrets/token")
    stack.reconcile()
    assert stack.layer("app")["phase"] == "Ready"


def test_a_chain_of_waiting_layers_is_explained_by_the_object_at_its_end(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        {"name": "base", "manifests": [deployment("engine", place, runs=False)]},
        layer("middle", place, dependsOn=["base"]),
        layer("top", place, dependsOn=["middle"]),
    )
    stack.phase("middle", "Waiting", says="layer base")
    stack.phase("top", "Waiting", says="layer middle")
    line = message(stack, "0/1")
    assert line.startswith(f"base: waiting for Deployment {place}/engine 0/1")
    assert bed.api.find(maps(place, "middle")) is None
    let_run(bed.api, "engine", place)
    stack.ready()


def test_a_dependency_that_degrades_holds_back_new_content_only(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        {"name": "base", "manifests": [config_map("base", place)], "health": {"checks": [_engine(place)]}},
        layer("app", place, dependsOn=["base"]),
    )
    bed.api.create(f"/apis/apps/v1/namespaces/{place}/deployments", deployment("engine", place))
    stack.ready()
    bed.api.delete(f"/apis/apps/v1/namespaces/{place}/deployments/engine")
    stack.phase("base", "Progressing", says="engine")
    assert stack.layer("app")["phase"] == "Ready"
    stack.edit("app", manifests=[config_map("app", place, size="2")])
    stack.phase("app", "Waiting", says="base")
    assert bed.api.get(maps(place, "app"))["data"] == {"size": "1"}
    bed.api.create(f"/apis/apps/v1/namespaces/{place}/deployments", deployment("engine", place))
    stack.ready()
    assert bed.api.get(maps(place, "app"))["data"] == {"size": "2"}


def _engine(place: str) -> Manifest:
    return reference("Deployment", place, "engine", "apps/v1")


def test_drift_is_corrected_in_a_layer_whose_dependency_has_degraded(bed: Bed) -> None:
    place = bed.namespace()
    bed.api.create(f"/apis/apps/v1/namespaces/{place}/deployments", deployment("engine", place))
    stack = bed.stack(
        layer("base", place, health={"checks": [_engine(place)]}), layer("app", place, dependsOn=["base"])
    )
    stack.ready()
    bed.api.delete(f"/apis/apps/v1/namespaces/{place}/deployments/engine")
    stack.phase("base", "Progressing", says="engine")
    bed.api.delete(maps(place, "app"))
    bed.until(maps(place, "app"), lambda found: found is not None)


def test_after_does_not_wait_for_a_layer_that_failed(bed: Bed) -> None:
    place = bed.namespace()
    wrong = config_map("Wrong_Name", place)
    stack = bed.stack({"name": "first", "manifests": [wrong]}, layer("then", place, after=["first"]))
    stack.phase("first", "Failed", says="Wrong_Name")
    stack.ready("then")


def test_after_waits_until_the_other_layer_is_ready(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        {"name": "first", "manifests": [deployment("engine", place, runs=False)]}, layer("then", place, after=["first"])
    )
    stack.phase("then", "Waiting", says="first")
    let_run(bed.api, "engine", place)
    stack.ready()


def test_after_does_not_wait_longer_than_the_other_layers_timeout(bed: Bed) -> None:
    place = bed.namespace()
    first = {"name": "first", "manifests": [deployment("engine", place, runs=False)], "timeout": "2s"}
    stack = bed.stack(first, layer("then", place, after=["first"]))
    stack.ready("then")
    stack.phase("first", "Failed", says="timed out")


def test_after_does_not_wait_for_a_suspended_layer_but_depends_on_does(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(
        layer("first", place, suspend=True),
        layer("then", place, after=["first"]),
        layer("needs", place, dependsOn=["first"]),
    )
    stack.ready("then")
    stack.phase("needs", "Waiting", says="first")
    found = bed.until(stack.path, lambda found: "suspended" in _summary(found))
    assert "first" in _summary(found)
    assert bed.api.find(maps(place, "first")) is None
    stack.edit("first", suspend=False)
    stack.ready()


def test_a_layer_past_its_timeout_names_what_is_unhealthy_and_recovers_by_itself(bed: Bed) -> None:
    place = bed.namespace()
    manifests = [deployment("engine", place, runs=False), deployment("other", place)]
    stack = bed.stack({"name": "app", "timeout": "2s", "manifests": manifests})
    status = stack.phase("app", "Failed", says=f"Deployment {place}/engine")
    ready = condition({"status": status}, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "TimedOut")
    assert "timed out" in ready["message"]
    assert condition({"status": status}, "Stalled")["status"] == "False"
    assert [one["name"] for one in status["blocking"]] == ["engine"]
    bed.until(stack.path, lambda found: found["status"]["phase"] == "Failed" and "engine" in _summary(found))
    let_run(bed.api, "engine", place)
    stack.ready()


def test_objects_of_health_checks_are_awaited_and_watched_ever_after(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(layer("app", place, health={"checks": [reference("Secret", place, "made-by-another")]}))
    stack.phase("app", "Progressing", says=f"Secret {place}/made-by-another")
    assert bed.api.get(maps(place, "app"))["data"] == {"size": "1"}
    bed.api.create(f"/api/v1/namespaces/{place}/secrets", secret("made-by-another", place))
    stack.ready()
    bed.api.delete(f"/api/v1/namespaces/{place}/secrets/made-by-another")
    stack.phase("app", "Progressing", says=f"Secret {place}/made-by-another")


def test_an_expression_decides_when_an_object_is_healthy(bed: Bed) -> None:
    place = bed.namespace()
    group = f"{place}.example.org"
    rule = {
        "apiVersion": f"{group}/v1",
        "kind": "Widget",
        "current": "has(status.state) && status.state == 'done'",
        "failed": "has(status.state) && status.state == 'no'",
    }
    widgets = [crd("Widget", group), custom("Widget", group, "w", place, spec={"size": 1})]
    stack = bed.stack({"name": "app", "manifests": widgets, "health": {"expressions": [rule]}})
    path = f"/apis/{group}/v1/namespaces/{place}/widgets/w"
    bed.until(path, lambda found: found is not None)
    stack.phase("app", "Progressing", says=f"Widget {place}/w")
    for state, phase in (("no", "Failed"), ("done", "Ready")):
        patch = {"status": {"state": state}}
        bed.api.request("PATCH", path, patch, content_type="application/merge-patch+json")
        stack.phase("app", phase)


def test_a_suspended_layer_is_left_as_it_is_until_it_is_resumed(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(layer("app", place), layer("other", place))
    stack.ready()
    stack.edit("app", suspend=True)
    status = stack.phase("app", "Suspended")
    assert condition({"status": status}, "Suspended")["status"] == "True"
    since = bed.plane.audit_offset()
    _spoil(bed, place, "app")
    stack.edit("app", manifests=[config_map("app", place, size="2")])
    stack.ready("other")
    stack.reconcile()
    settle(1)
    assert [line for line in bed.writes(since) if place in line] == []
    stack.edit("app", suspend=False)
    stack.ready()
    assert bed.api.get(maps(place, "app"))["data"] == {"size": "2"}


def test_a_suspended_stack_writes_nothing_and_makes_up_for_it_when_resumed(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack(layer("app", place), layer("other", place))
    stack.ready()
    stack.apply(suspend=True)
    found = bed.until(stack.path, lambda found: found["status"]["phase"] == "Suspended")
    assert condition(found, "Suspended")["status"] == "True"
    since = bed.plane.audit_offset()
    _spoil(bed, place, "app")
    stack.edit("other", manifests=[config_map("other", place, size="2")])
    stack.reconcile()
    settle(1)
    assert [line for line in bed.writes(since) if place in line] == []
    stack.apply(suspend=False)
    stack.ready()
    assert bed.api.get(maps(place, "app"))["data"] == {"size": "1"}
    assert bed.api.get(maps(place, "other"))["data"] == {"size": "2"}


def _spoil(bed: Bed, place: str, name: str) -> None:
    """Change an object as somebody else would."""
    patch = {"data": {"size": "spoilt"}}
    bed.api.request("PATCH", maps(place, name), patch, content_type="application/merge-patch+json")


def test_an_object_of_a_namespace_that_comes_later_is_parked_and_then_applied(bed: Bed) -> None:
    place = unique("later")
    stack = bed.stack(layer("app", place))
    stack.phase("app", "Progressing", says=f"namespace {place} does not exist yet")
    bed.api.create("/api/v1/namespaces", namespace(place))
    stack.ready()


def test_one_object_that_waits_does_not_keep_its_neighbours_from_being_applied(bed: Bed) -> None:
    place, later = bed.namespace(), unique("later")
    stack = bed.stack({"name": "app", "manifests": [config_map("held", later), config_map("free", place)]})
    bed.until(maps(place, "free"), lambda found: found is not None)
    assert stack.phase("app", "Progressing", says="held")["objects"]["ready"] == 1
    bed.api.create("/api/v1/namespaces", namespace(later))
    stack.ready()
