"""Random values, values from elsewhere, lookups: what a release is rendered from, and when it is rendered again."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from testbed.chartserver import chart

from .bed import Bed, Stack, config_map, release, secret

pytestmark = pytest.mark.e2e

RANDOM = """
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-password"}
stringData: {password: "{{ randAlphaNum 24 }}", size: "{{ .Values.size }}"}
"""
PAGE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data: {greeting: "{{ .Values.greeting }}", size: "{{ .Values.limits.size }}"}
"""
PAGE_VALUES = "greeting: hello\nlimits: {size: 1}\n"
SCHEMA = '{"type": "object", "properties": {"limits": {"type": "object", "properties": {"size": {"type": "integer"}}}}}'
LOOKUP = """
{{- $found := lookup "v1" "ConfigMap" .Release.Namespace "facts" }}
{{- if not $found }}{{ fail "ConfigMap facts is needed" }}{{ end }}
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data: {seen: "{{ $found.data.colour }}"}
"""


def publish(bed: Bed) -> None:
    bed.charts.publish(
        chart("random", "1.0.0", {"templates/secret.yaml": RANDOM, "values.yaml": "size: 1\n"}),
        chart("page", "1.0.0", {"templates/page.yaml": PAGE, "values.yaml": PAGE_VALUES, "values.schema.json": SCHEMA}),
        chart("lookup", "1.0.0", {"templates/page.yaml": LOOKUP}),
    )


def password(bed: Bed, namespace: str) -> str:
    return str(bed.api.get(f"/api/v1/namespaces/{namespace}/secrets/random-password")["data"]["password"])


def page(bed: Bed, namespace: str, name: str = "page") -> dict[str, str]:
    return dict(bed.api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")["data"])


@pytest.fixture
def random(bed: Bed) -> tuple[Stack, str]:
    """A stack with one release whose password is random."""
    publish(bed)
    ns = bed.namespace()
    stack = bed.stack({"name": "app", "charts": [release(bed, "random", ns)]})
    stack.ready()
    return stack, ns


def test_a_random_value_stays_put_over_reconciling_restarts_and_a_lost_cache(
    bed: Bed, random: tuple[Stack, str]
) -> None:
    stack, ns = random
    first = password(bed, ns)
    assert stack.untouched(bed.plane.audit_offset()) == []
    for how in ({}, {"lose_cache": True}, {"crash": True}):
        since = bed.plane.audit_offset()
        bed.restart(**how)
        assert stack.untouched(since) == [], how
    assert password(bed, ns) == first
    assert bed.records(ns) == ["1 deployed"]


def test_a_random_value_changes_with_an_upgrade(bed: Bed, random: tuple[Stack, str]) -> None:
    stack, ns = random
    first = password(bed, ns)
    stack.edit("app", charts=[release(bed, "random", ns, values={"size": 2})])
    bed.until(f"/api/v1/namespaces/{ns}/secrets/random-password", lambda found: _text(found, "size") == "2")
    stack.ready()
    assert password(bed, ns) != first
    bed.until_records(ns, "1 superseded", "2 deployed")


def _text(found: Any, key: str) -> str:
    return base64.b64decode(found["data"][key]).decode()


def test_a_lookup_parks_the_release_until_the_object_exists(bed: Bed) -> None:
    publish(bed)
    ns = bed.namespace()
    stack = bed.stack({"name": "app", "charts": [release(bed, "lookup", ns)]})
    status = stack.phase("app", "Progressing", says="ConfigMap facts is needed")
    assert "Failed" not in str(status["units"])
    bed.api.create(f"/api/v1/namespaces/{ns}/configmaps", config_map("facts", ns, colour="green"))
    stack.ready(timeout=10)
    assert page(bed, ns, "lookup") == {"seen": "green"}


def test_values_from_a_secret_are_waited_for_and_followed(bed: Bed) -> None:
    publish(bed)
    ns = bed.namespace()
    where = [
        {"kind": "Secret", "name": "late", "valuesKey": "greeting", "targetPath": "greeting"},
        {"kind": "ConfigMap", "name": "limits", "optional": True},
    ]
    stack = bed.stack({"name": "app", "charts": [release(bed, "page", ns, valuesFrom=where)]})
    status = stack.phase("app", "Progressing", says="late")
    assert "Secret" in status["message"]
    secrets = f"/api/v1/namespaces/{ns}/secrets"
    bed.api.create(secrets, secret("late", ns, other="x"))
    stack.phase("app", "Progressing", says="greeting")
    bed.api.apply(f"{secrets}/late", secret("late", ns, greeting="good day"))
    stack.ready(timeout=10)
    assert page(bed, ns) == {"greeting": "good day", "size": "1"}
    bed.api.apply(f"{secrets}/late", secret("late", ns, greeting="good night"))
    bed.until(f"/api/v1/namespaces/{ns}/configmaps/page", lambda found: found["data"]["greeting"] == "good night")
    limits = config_map("limits", ns, **{"values.yaml": "limits: {size: 7}\n"})
    bed.api.create(f"/api/v1/namespaces/{ns}/configmaps", limits)
    bed.until(f"/api/v1/namespaces/{ns}/configmaps/page", lambda found: found["data"]["size"] == "7")
    stack.ready()
    bed.until_records(ns, "1 superseded", "2 superseded", "3 deployed")


def test_secret_values_are_nowhere_but_in_the_release(bed: Bed) -> None:
    publish(bed)
    ns = bed.namespace()
    bed.api.create(f"/api/v1/namespaces/{ns}/secrets", secret("late", ns, **{"values.yaml": "limits: s3cr3t-value"}))
    where = [{"kind": "Secret", "name": "late"}]
    stack = bed.stack({"name": "app", "charts": [release(bed, "page", ns, valuesFrom=where)]})
    stack.phase("app", "Failed")
    for text in (bed.told(), str(bed.api.get("/apis/events.k8s.io/v1/events")), bed.operator.log.read_text()):
        assert "s3cr3t-value" not in text


def test_values_that_the_schema_rejects_and_a_missing_chart_leave_the_neighbours_alone(bed: Bed) -> None:
    publish(bed)
    ns = bed.namespace()
    charts = [
        release(bed, "page", ns, name="good"),
        release(bed, "page", ns, name="bad", values={"limits": {"size": "large"}}),
        release(bed, "nowhere", ns),
        release(bed, "page", ns, name="future", version="9.9.9"),
    ]
    stack = bed.stack({"name": "app", "charts": charts}, {"name": "other", "charts": [release(bed, "random", ns)]})
    stack.phase("other", "Ready")
    stack.phase("app", "Failed")
    bed.until(f"/api/v1/namespaces/{ns}/configmaps/good", bool)

    def told(found: Any) -> bool:
        units = {unit["name"].rpartition("/")[2]: unit for unit in found["status"]["units"]}
        return (
            units["good"]["phase"] == "Ready"
            and units["bad"]["phase"] == "Failed"
            and "limits/size" in units["bad"]["message"].replace(".", "/")
            and "nowhere" in units["nowhere"]["message"]
            and "9.9.9" in units["future"]["message"]
        )

    bed.until(stack.layer_path("app"), told)
    assert bed.records(ns) == ["1 deployed", "1 deployed"]
    charts[1]["values"] = {"limits": {"size": 3}}
    stack.edit("app", charts=charts[:2])
    stack.ready()
    assert page(bed, ns, "bad")["size"] == "3"
