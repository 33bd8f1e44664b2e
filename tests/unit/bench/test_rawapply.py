"""What is measured must be accepted by another cluster: nothing of the first one may stay in the manifests."""

from __future__ import annotations

from bench.rawapply import clean


def test_what_the_api_server_added_is_gone() -> None:
    live = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "path": "/x",
        "metadata": {"name": "a", "uid": "1", "resourceVersion": "2", "labels": {"b": "c"}},
        "data": {"x": "y"},
        "status": {},
    }
    assert clean(live) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"b": "c"}},
        "data": {"x": "y"},
    }


def test_a_service_gets_addresses_of_its_new_cluster() -> None:
    spec = {"clusterIP": "127.96.0.9", "clusterIPs": ["127.96.0.9"], "ports": [{"port": 80, "nodePort": 30000}]}
    cleaned = clean({"kind": "Service", "metadata": {"name": "a"}, "spec": spec})
    assert cleaned["spec"] == {"ports": [{"port": 80}]}


def test_a_job_gets_a_selector_of_its_own() -> None:
    labels = {"controller-uid": "1", "batch.kubernetes.io/job-name": "a", "app": "a"}
    spec = {"selector": {}, "template": {"metadata": {"labels": labels}, "spec": {}}}
    cleaned = clean({"kind": "Job", "metadata": {"name": "a", "labels": labels}, "spec": spec})
    assert cleaned["spec"] == {"template": {"metadata": {"labels": {"app": "a"}}, "spec": {}}}
    assert cleaned["metadata"]["labels"] == {"app": "a"}


def test_a_claim_gets_a_volume_of_its_own() -> None:
    cleaned = clean(
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "a"}, "spec": {"volumeName": "pvc-1", "x": 1}}
    )
    assert cleaned["spec"] == {"x": 1}
