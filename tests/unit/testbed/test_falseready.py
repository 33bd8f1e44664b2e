"""The judge of false Readys must find each kind of them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from testbed.falseready import Evidence, judge, ready_writes
from testbed.outside import Item

WEB = Item("apps", "Deployment", "shop", "web")
QUEUE = Item("queue.example.com", "Queue", "shop", "orders")
KINDS = {
    ("apps", "deployments"): "Deployment",
    ("queue.example.com", "queues"): "Queue",
    ("", "namespaces"): "Namespace",
}
GRAPH = {"first": (), "second": ("first",), "third": ("second",)}


def at(second: float) -> str:
    return f"2026-01-01T00:00:{second:09.6f}Z"


def ready(layer: str, version: int, second: float, *, status: str = "True", code: int = 200) -> dict[str, Any]:
    return {
        "verb": "patch",
        "requestURI": "/apis/clusterstack.dev/v1alpha1/stacklayers/x/status?fieldManager=clusterstack",
        "objectRef": {"apiGroup": "clusterstack.dev", "resource": "stacklayers", "subresource": "status"},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": at(second - 0.01),
        "stageTimestamp": at(second),
        "responseObject": {
            "metadata": {"name": f"home.{layer}", "resourceVersion": str(version)},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        },
    }


def written(item: Item, second: float, *, verb: str = "patch", uri: str = "/x?force=true") -> dict[str, Any]:
    resource = next(name for (group, name), kind in KINDS.items() if (group, kind) == (item.group, item.kind))
    about = {"apiGroup": item.group, "resource": resource, "namespace": item.namespace, "name": item.name}
    times = {"requestReceivedTimestamp": at(second), "stageTimestamp": at(second + 0.01)}
    return {"verb": verb, "requestURI": uri, "objectRef": about, "responseStatus": {"code": 201}, **times}


def line(item: Item, state: str, version: int) -> dict[str, Any]:
    return {
        "state": state,
        "apiVersion": f"{item.group}/v1",
        "kind": item.kind,
        "namespace": item.namespace,
        "name": item.name,
        "resourceVersion": str(version),
    }


def evidence(events: Iterable[dict[str, Any]], journal: Iterable[dict[str, Any]]) -> Evidence:
    return Evidence(
        stack="home",
        events=list(events),
        journal=list(journal),
        inventories={"first": [WEB], "second": [QUEUE], "third": []},
        depends_on=GRAPH,
        kinds=KINDS,
    )


GOOD = evidence(
    [written(WEB, 1), ready("first", 20, 5), written(QUEUE, 6), ready("second", 40, 9)],
    [line(WEB, "seen", 5), line(WEB, "healthy", 12), line(QUEUE, "seen", 25), line(QUEUE, "healthy", 39)],
)


def test_a_ready_after_everything_is_healthy_and_before_any_dependant_is_true() -> None:
    assert judge(GOOD) == []


def test_an_object_that_becomes_healthy_after_the_ready_proves_it_false() -> None:
    found = judge(replace(GOOD, journal=[line(WEB, "seen", 5), line(WEB, "healthy", 21)]))
    assert [(one.write.layer, one.item, one.why) for one in found] == [("first", WEB, "healthy at 21, Ready at 20")]


def test_an_object_that_never_becomes_healthy_proves_it_false() -> None:
    found = judge(replace(GOOD, journal=[line(WEB, "seen", 5)]))
    assert [one.why for one in found] == ["healthy at never, Ready at 20"]


def test_an_object_that_was_healthy_once_and_no_longer_is_proves_it_false() -> None:
    journal = [line(WEB, "healthy", 10), line(WEB, "unhealthy", 15), line(WEB, "healthy", 30)]
    assert [one.item for one in judge(replace(GOOD, journal=journal))] == [WEB]


def test_an_object_that_fails_after_a_true_ready_proves_nothing() -> None:
    journal = [line(WEB, "healthy", 10), line(WEB, "unhealthy", 30), line(WEB, "healthy", 35)]
    assert judge(replace(GOOD, journal=journal)) == []


def test_an_object_of_another_layer_proves_nothing() -> None:
    assert judge(evidence([ready("third", 20, 5)], [line(WEB, "seen", 5)])) == []


def test_a_dependants_object_written_before_the_ready_proves_it_false() -> None:
    found = judge(evidence([written(QUEUE, 4.9), ready("first", 20, 5)], []))
    assert [(one.write.layer, one.item) for one in found] == [("first", QUEUE)]


def test_a_dependant_of_a_dependant_counts_too() -> None:
    events = [written(QUEUE, 4), ready("first", 20, 5)]
    far = replace(evidence(events, []), inventories={"first": [WEB], "third": [QUEUE]})
    assert [one.item for one in judge(far)] == [QUEUE]


def test_an_object_that_an_earlier_layer_holds_too_is_nobodys_haste() -> None:
    events = [written(QUEUE, 4), ready("first", 20, 5)]
    both = replace(evidence(events, []), inventories={"first": [QUEUE], "second": [QUEUE]})
    assert judge(both) == []


def test_deletions_dry_runs_and_refused_writes_are_no_haste() -> None:
    harmless = [
        written(QUEUE, 1, verb="delete"),
        written(QUEUE, 1, uri="/x?dryRun=All"),
        {**written(QUEUE, 1), "responseStatus": {"code": 403}},
    ]
    assert judge(evidence([*harmless, ready("first", 20, 5)], [])) == []


def test_a_dependants_change_after_the_first_ready_is_no_haste() -> None:
    events = [ready("first", 20, 5), written(QUEUE, 6), ready("first", 60, 12)]
    assert judge(evidence(events, [])) == []


def test_writes_that_are_refused_or_say_not_ready_are_no_readys() -> None:
    events = [ready("first", 20, 5, status="False"), ready("first", 21, 6, code=409), ready("first", 22, 7)]
    assert [write.resource_version for write in ready_writes(events, stack="home")] == [22]
    assert ready_writes(events, stack="other") == []
