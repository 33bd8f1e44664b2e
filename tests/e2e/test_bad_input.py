"""Bad input: each a condition that says what is wrong, where, and what to do; and no object written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from testbed.api import ApiError
from testbed.chartserver import chart
from testbed.gitrepo import GitRepository

from .bed import Bed, Manifest, Stack, condition, config_map, settle, unique

pytestmark = pytest.mark.e2e

SCHEMA = '{"type": "object", "properties": {"replicas": {"type": "integer"}}}'
GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, namespace: default}\n"


@pytest.fixture
def written(bed: Bed) -> Callable[[], list[str]]:
    """What the operator wrote since the test began, but for statuses, finalizers, Events and its own books."""
    since = bed.plane.audit_offset()
    own = ("clusterstacks", "stacklayers", "events", "configmaps clusterstack/", "secrets clusterstack/")
    return lambda: [line for line in bed.writes(since) if not any(word in line for word in own)]


def layer(name: str, **more: Any) -> Manifest:
    return {"name": name, "manifests": [config_map(unique("x"), "default", a="b")], **more}


def source(git: GitRepository) -> list[Manifest]:
    return [{"name": "infra", "git": {"url": git.bare.as_uri(), "ref": {"branch": "main"}}}]


def stalled(stack: Stack, reason: str) -> str:
    """The message of the stack's Stalled condition, once it is there for that reason."""

    def holds(found: Any) -> bool:
        seen = condition(found, "Stalled")
        return seen.get("status") == "True" and seen.get("reason") == reason

    found = stack.bed.until(stack.path, holds)
    assert condition(found, "Ready")["status"] == "False"
    return str(condition(found, "Stalled")["message"])


def test_an_unknown_dependency_is_named_and_so_is_what_there_is(bed: Bed, written: Callable[[], list[str]]) -> None:
    message = stalled(bed.stack(layer("one"), layer("two", dependsOn=["oen"])), "UnknownDependency")
    assert "two" in message
    assert "oen" in message
    settle(1)
    assert written() == []


def test_a_layer_that_depends_on_itself_is_refused_at_once(bed: Bed) -> None:
    with pytest.raises(ApiError, match="a layer cannot depend on itself"):
        bed.stack(layer("one", dependsOn=["one"]))


def test_a_cycle_of_thirteen_layers_is_shown_in_full(bed: Bed, written: Callable[[], list[str]]) -> None:
    names = [f"l{number:02}" for number in range(13)]
    ring = [layer(name, dependsOn=[names[number - 1]]) for number, name in enumerate(names)]
    message = stalled(bed.stack(*ring), "DependencyCycle")
    assert all(name in message for name in names)
    settle(1)
    assert written() == []


def test_a_layer_with_nothing_in_it_is_named(bed: Bed, written: Callable[[], list[str]]) -> None:
    message = stalled(bed.stack(layer("one"), {"name": "two"}), "EmptyLayer")
    assert "two" in message
    settle(1)
    assert written() == []


def test_a_path_that_does_not_exist_is_named(bed: Bed, git: GitRepository, written: Callable[[], list[str]]) -> None:
    stack = bed.stack({"name": "one", "path": "nowhere/at/all"}, sources=source(git))
    status = stack.phase("one", "Failed", says="nowhere/at/all")
    assert condition({"status": status}, "Ready")["reason"] == "PathNotFound"
    settle(1)
    assert written() == []


def test_yaml_that_does_not_parse_is_named_with_file_and_line(
    bed: Bed, git: GitRepository, written: Callable[[], list[str]]
) -> None:
    git.commit("Bad", {"app/good.yaml": GOOD, "app/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n"})
    stack = bed.stack({"name": "one", "path": "app"}, layer("two"), sources=source(git))
    message = stack.phase("one", "Failed", says="bad.yaml")["message"]
    assert re.search(r"line \d", message)
    stack.ready("two")


def test_a_chart_that_does_not_exist_is_named(bed: Bed, written: Callable[[], list[str]]) -> None:
    bed.charts.publish(chart("here", "1.0.0", {}))
    wanted = {"name": "app", "namespace": "default", "repo": bed.charts.url, "chart": "nowhere", "version": "1.0.0"}
    stack = bed.stack({"name": "one", "charts": [wanted]})
    message = stack.phase("one", "Failed", says="nowhere")["message"]
    assert bed.charts.url in message
    settle(1)
    assert written() == []


def test_a_version_that_does_not_exist_is_named_with_those_that_do(bed: Bed) -> None:
    bed.charts.publish(chart("versioned", "1.0.0", {}))
    wanted = {"name": "app", "namespace": "default", "repo": bed.charts.url, "chart": "versioned", "version": "2.x"}
    stack = bed.stack({"name": "one", "charts": [wanted]})
    message = stack.phase("one", "Failed", says="2.x")["message"]
    assert "1.0.0" in message


def test_values_that_the_charts_schema_rejects_are_named(bed: Bed, written: Callable[[], list[str]]) -> None:
    bed.charts.publish(chart("strict", "1.0.0", {"values.schema.json": SCHEMA, "values.yaml": "replicas: 1\n"}))
    wanted = {
        "name": "app",
        "namespace": "default",
        "repo": bed.charts.url,
        "chart": "strict",
        "values": {"replicas": "many"},
    }
    stack = bed.stack({"name": "one", "charts": [wanted]})
    message = stack.phase("one", "Failed", says="replicas")["message"]
    assert "ValuesRejected" in message or "integer" in message
    settle(1)
    assert written() == []


def test_a_git_url_that_refuses_is_named(bed: Bed, written: Callable[[], list[str]]) -> None:
    url = "http://127.0.0.1:9/nobody/listens.git"
    stack = bed.stack({"name": "one", "path": "."}, sources=[{"name": "infra", "git": {"url": url}}])

    def holds(found: Any) -> bool:
        seen = condition(found, "SourceReady")
        return seen.get("status") == "False" and "127.0.0.1:9" in seen.get("message", "")

    found = bed.until(stack.path, holds)
    assert condition(found, "Ready")["status"] == "False"
    settle(1)
    assert written() == []


def test_an_account_without_rights_is_told_which_right_it_lacks(bed: Bed, written: Callable[[], list[str]]) -> None:
    account = {"name": unique("powerless"), "namespace": "default"}
    stack = bed.stack(layer("one"), serviceAccount=account)
    status = stack.phase("one", "Failed", says="configmaps")
    assert "patch" in status["message"] or "create" in status["message"]
    assert account["name"] in status["message"]
    settle(1)
    assert written() == []


def test_the_others_go_on_when_one_layer_is_wrong(bed: Bed, git: GitRepository) -> None:
    stack = bed.stack({"name": "one", "path": "nowhere"}, layer("two"), sources=source(git))
    stack.phase("one", "Failed")
    stack.ready("two")


def test_what_was_wrong_is_forgotten_once_it_is_right(bed: Bed) -> None:
    stack = bed.stack(layer("one"), layer("two", dependsOn=["oen"]))
    stalled(stack, "UnknownDependency")
    stack.edit("two", dependsOn=["one"])
    stack.ready()
    assert condition(bed.api.get(stack.path), "Stalled")["status"] == "False"
