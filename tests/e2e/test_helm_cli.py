"""The real `helm` command on our releases: what it shows, and how what it does by hand is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testbed.chartserver import chart

from .bed import Bed, Stack, release

pytestmark = pytest.mark.e2e

TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {text: "{{ .Values.text }}", random: "{{ randAlphaNum 16 }}"}
"""


@pytest.fixture
def app(bed: Bed) -> tuple[Stack, str]:
    """A release at its second revision."""
    bed.charts.publish(
        chart("app", "1.2.3", {"templates/page.yaml": TEMPLATE, "templates/NOTES.txt": "Have fun"}, appVersion="9")
    )
    ns = bed.namespace()
    stack = bed.stack({"name": "app", "charts": [release(bed, "app", ns, values={"text": "one"})]})
    stack.ready()
    stack.edit("app", charts=[release(bed, "app", ns, values={"text": "two"})])
    bed.until(page_path(ns), lambda found: found["data"]["text"] == "two")
    bed.until_records(ns, "1 superseded", "2 deployed")
    stack.ready()
    return stack, ns


def page_path(ns: str) -> str:
    return f"/api/v1/namespaces/{ns}/configmaps/page"


def history(bed: Bed, ns: str) -> list[str]:
    found: list[dict[str, Any]] = json.loads(bed.helm("history", "app", "--output", "json", namespace=ns))
    return [f"{item['revision']} {item['status']}" for item in found]


def test_helm_lists_our_releases_with_their_history_manifest_values_and_notes(bed: Bed, app: tuple[Stack, str]) -> None:
    _, ns = app
    (listed,) = json.loads(bed.helm("ls", "--output", "json", namespace=ns))
    shown = {key: listed[key] for key in ("name", "namespace", "revision", "status", "chart", "app_version")}
    assert shown == {
        "name": "app",
        "namespace": ns,
        "revision": "2",
        "status": "deployed",
        "chart": "app-1.2.3",
        "app_version": "9",
    }
    assert history(bed, ns) == ["1 superseded", "2 deployed"]
    assert 'text: "two"' in bed.helm("get", "manifest", "app", namespace=ns)
    assert json.loads(bed.helm("get", "values", "app", "--output", "json", namespace=ns)) == {"text": "two"}
    assert "Have fun" in bed.helm("get", "notes", "app", namespace=ns)


def test_a_rollback_by_hand_is_answered_with_what_was_deployed(bed: Bed, app: tuple[Stack, str]) -> None:
    stack, ns = app
    before = bed.api.get(page_path(ns))["data"]
    bed.helm("rollback", "app", "1", namespace=ns)
    bed.until_records(ns, "1 superseded", "2 superseded", "3 superseded", "4 deployed")
    stack.ready()
    assert bed.api.get(page_path(ns))["data"] == before
    assert history(bed, ns) == ["1 superseded", "2 superseded", "3 superseded", "4 deployed"]
    events = bed.api.get("/apis/events.k8s.io/v1/events")["items"]
    assert [event for event in events if event["reason"] == "ReleaseChangedByHand" and ns in event["note"]]
    assert stack.untouched(bed.plane.audit_offset()) == []


def test_a_release_uninstalled_by_hand_is_installed_again(bed: Bed, app: tuple[Stack, str]) -> None:
    stack, ns = app
    before = bed.api.get(page_path(ns))["metadata"]["uid"]
    bed.helm("uninstall", "app", namespace=ns)
    bed.until(page_path(ns), lambda found: found is not None and found["metadata"]["uid"] != before)
    newest = f"/api/v1/namespaces/{ns}/secrets?labelSelector=owner%3Dhelm,status%3Ddeployed"
    bed.until(newest, lambda found: len(found["items"]) == 1)
    stack.ready()
    assert stack.untouched(bed.plane.audit_offset()) == []
    assert history(bed, ns)[-1].endswith("deployed")


def test_an_upgrade_by_hand_is_answered_and_a_foreign_release_is_taken_over(bed: Bed, app: tuple[Stack, str]) -> None:
    stack, ns = app
    before = bed.api.get(page_path(ns))["data"]
    source = ["--repo", bed.charts.url, "--version", "1.2.3"]
    bed.helm("upgrade", "app", "app", *source, "--set", "text=theirs", namespace=ns)
    bed.until(page_path(ns), lambda found: found["data"] == before)
    bed.until_records(ns, "1 superseded", "2 superseded", "3 superseded", "4 deployed")
    stack.ready()
    other = bed.namespace()
    bed.helm("install", "app", "app", *source, "--set", "text=theirs", namespace=other)
    stack.edit("app", charts=[*stack.spec["layers"][0]["charts"], release(bed, "app", other, values={"text": "ours"})])
    bed.until(page_path(other), lambda found: found["data"]["text"] == "ours")
    bed.until_records(other, "1 superseded", "2 deployed")
    stack.ready()
    assert history(bed, other) == ["1 superseded", "2 deployed"]
