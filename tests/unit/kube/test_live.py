"""The projection of live objects."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.errors import TransportError
from clusterstack.kube.live import LAST_APPLIED, project, project_json
from clusterstack.kube.resource import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, SECRET, Resource

DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
FIELDS: dict[str, object] = {"f:spec": {"f:replicas": {}, 'k:{"name":"a"}': {}}}


def deployment(**metadata: Any) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "41", **metadata},
        "spec": {"replicas": 3},
        "status": {"readyReplicas": 2},
    }


def entry(manager: str, fields: Any, **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields, **more}


def test_what_is_projected_reads_as_it_was() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "X", "name": "x", "uid": "u0", "controller": True}
    manifest = deployment(
        generation=7,
        labels={"app": "web"},
        annotations={"note": "x"},
        finalizers=["f"],
        ownerReferences=[owner],
        creationTimestamp="2026-01-01T00:00:00Z",
        deletionTimestamp="2026-01-02T00:00:00Z",
    )
    live = project(DEPLOYMENT, manifest)
    assert live.ref == ObjectRef("apps", "Deployment", "shop", "web")
    assert live.revision == 41
    assert live.owner_references[0].controller
    assert live.manifest() == manifest


def test_each_reader_gets_a_manifest_of_its_own() -> None:
    live = project(DEPLOYMENT, deployment(labels={"a": "b"}))
    first = live.manifest()
    first["spec"]["replicas"] = 0
    first["metadata"]["labels"]["a"] = "changed"
    assert live.manifest()["spec"] == {"replicas": 3}
    assert live.manifest()["metadata"]["labels"] == {"a": "b"}


def test_the_fields_digest_ignores_time_and_escapes_but_not_fields() -> None:
    def digest(text: bytes) -> str:
        prefix = b'{"metadata":{"name":"x","managedFields":[{"manager":"m","operation":"Apply","fieldsV1":'
        return project_json(DEPLOYMENT, prefix + text + b"}]}}").fields_digest("m")

    plain = digest(rb'{"f:metadata":{"f:labels":{"f:a<b":{}}}}')
    assert plain
    assert digest(rb'{"f:metadata":{"f:labels":{"f:a\u003cb":{}}}}') == plain
    assert digest(rb'{"f:metadata":{"f:labels":{"f:a>b":{}}}}') != plain
    late = project(DEPLOYMENT, deployment(managedFields=[entry("m", FIELDS, time="2027-01-01T00:00:00Z")]))
    assert late.fields_digest("m") == project(DEPLOYMENT, deployment(managedFields=[entry("m", FIELDS)])).fields_digest(
        "m"
    )


def test_managers_are_told_apart_by_subresource_and_operation() -> None:
    live = project(
        DEPLOYMENT,
        deployment(managedFields=[entry("m", {"f:status": {}}, subresource="status"), entry("m", FIELDS)]),
    )
    assert live.fields_digest("m") != live.fields_digest("m", "status")
    assert live.fields_digest("m", operation="Update") == ""
    assert live.fields_digest("other") == ""


@pytest.mark.parametrize(
    ("resource", "content"), [(SECRET, "data"), (SECRET, "stringData"), (CONFIG_MAP, "binaryData")]
)
def test_content_is_never_kept(resource: Resource, content: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": resource.kind,
        "metadata": {"name": "x", "annotations": {LAST_APPLIED: '{"data":{"k":"canary"}}', "kept": "yes"}},
        content: {"k": "canary"},
    }
    live = project(resource, manifest)
    assert "canary" not in repr(live)
    assert live.annotations == {"kept": "yes"}


def test_content_of_other_kinds_is_dropped_and_the_rest_kept() -> None:
    odd = Resource("example.dev", "v1", "Odd", "odds", namespaced=True)
    live = project(odd, {"metadata": {"name": "x"}, "data": {"k": "canary"}, "rules": [1], "spec": {}})
    assert live.body == b'{"rules":[1],"spec":{}}'


def test_a_crd_keeps_its_names_and_conditions_but_no_schema() -> None:
    manifest = {
        "metadata": {"name": "foos.example.dev"},
        "spec": {
            "group": "example.dev",
            "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"x": "big"}}}],
        },
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    }
    live = project(CUSTOM_RESOURCE_DEFINITION, manifest)
    assert b"big" not in live.body
    read = live.manifest()
    assert read["spec"]["versions"] == [{"name": "v1", "served": True, "storage": True}]
    assert read["spec"]["names"]["kind"] == "Foo"
    assert read["status"] == manifest["status"]


@pytest.mark.parametrize("text", [b"", b"[]", b'{"metadata": 3}', b'{"kind": "x"}', b'{"metadata":{"labels":{"a":1}}}'])
def test_what_is_no_object_is_an_error_of_ours(text: bytes) -> None:
    with pytest.raises(TransportError, match="cannot be read"):
        project_json(DEPLOYMENT, text)


def test_nulls_are_as_good_as_nothing() -> None:
    live = project(DEPLOYMENT, deployment(labels=None, annotations=None, creationTimestamp=None, managedFields=None))
    assert (live.labels, live.annotations, live.creation_timestamp, live.managers) == ({}, {}, "", ())


WIDGET = Resource("example.com", "v1", "Widget", "widgets", namespaced=True)


def written(reported: str, applied: str, **more: str) -> Manifest:
    entries = [
        entry("us", FIELDS, time=applied),
        {**entry("them", FIELDS, time=reported), "operation": "Update", **more},
    ]
    return deployment(managedFields=entries)


@pytest.mark.parametrize(
    ("reported", "applied", "since"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z", 1767225610),
        ("2026-01-01T00:00:10Z", "2026-01-01T00:00:10Z", 0),
        ("2026-01-01T00:00:20Z", "2026-01-01T00:00:10Z", 0),
    ],
)
def test_a_status_written_before_the_last_apply_is_outdated_since_then(reported: str, applied: str, since: int) -> None:
    assert project(WIDGET, written(reported, applied, subresource="status")).outdated_since == since
    assert project(WIDGET, written(reported, applied)).outdated_since == 0  # nobody has written a status
    assert project(DEPLOYMENT, written(reported, applied, subresource="status")).outdated_since == 0


def test_the_status_digest_changes_with_the_status_and_only_then() -> None:
    one, other = deployment(), deployment(labels={"a": "b"})
    other["spec"]["replicas"] = 4
    assert project(DEPLOYMENT, one).status_digest == project(DEPLOYMENT, other).status_digest != 0
    other["status"]["readyReplicas"] = 3
    assert project(DEPLOYMENT, one).status_digest != project(DEPLOYMENT, other).status_digest
    del other["status"]
    assert project(DEPLOYMENT, other).status_digest == 0
