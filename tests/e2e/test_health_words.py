"""Why an object is not healthy, in the words of the real controllers; finished Jobs; statuses that are out of date."""

from __future__ import annotations

from typing import Any

import pytest

from .bed import USER_AGENT, Bed, Manifest, Stack, config_map, settle, unique
from .objects import claim, crd, custom, deployment

pytestmark = pytest.mark.e2e

SHORT = 200  # characters: what a person reads, the name of the layer's state included


def quota(place: str, **hard: str) -> Manifest:
    metadata = {"name": "tight", "namespace": place}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def stateful_set(name: str, place: str) -> Manifest:
    found = deployment(name, place)
    found["kind"] = "StatefulSet"
    return found


def job(name: str, place: str, *, runs: bool = True, image: str = "app:1", **spec: Any) -> Manifest:
    pod: Manifest = {"restartPolicy": "Never", "containers": [{"name": "main", "image": f"registry.example/{image}"}]}
    if not runs:
        pod["nodeSelector"] = {"example.org/nowhere": "yes"}
    template = {"spec": pod}
    metadata = {"name": name, "namespace": place}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}


def jobs(place: str, name: str = "once") -> str:
    return f"/apis/batch/v1/namespaces/{place}/jobs/{name}"


def made(bed: Bed, since: int, place: str) -> int:
    """How often the operator wrote a Job in a namespace."""
    return sum(f"jobs {place}/" in line for line in bed.writes(since))


def says(stack: Stack, phase: str, *parts: str) -> None:
    message = stack.phase("app", phase, says=parts[0])["message"]
    assert all(part in message for part in parts), message
    assert len(message) <= SHORT, message


def test_a_claim_that_nobody_provisions_is_explained_by_its_events_until_it_is_bound(bed: Bed) -> None:
    place, since = bed.namespace(), bed.plane.audit_offset()
    stack = bed.stack({"name": "app", "manifests": [claim("data", place)]})
    says(stack, "Progressing", "ProvisioningFailed", f"PersistentVolumeClaim {place}/data", '"none" not found')
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": unique("pv")},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": place, "name": "data"},
            "hostPath": {"path": "/nowhere"},
            "storageClassName": "none",
        },
    }
    bed.api.create("/api/v1/persistentvolumes", volume)
    stack.ready()
    asked = [
        event["requestURI"]
        for event in bed.plane.audit(since)
        if event["verb"] in ("list", "watch")
        and (event.get("objectRef") or {}).get("resource") == "events"
        and event.get("userAgent", "").startswith(USER_AGENT)
    ]
    assert asked
    assert all("fieldSelector=involvedObject.uid" in uri and f"/namespaces/{place}/" in uri for uri in asked)


@pytest.mark.parametrize("kind", ["StatefulSet", "Deployment", "Job"])
def test_a_quota_that_admits_no_pod_is_named(bed: Bed, kind: str) -> None:
    place = bed.namespace()
    bed.api.create(f"/api/v1/namespaces/{place}/resourcequotas", quota(place, pods="0"))
    bed.until(f"/api/v1/namespaces/{place}/resourcequotas/tight", lambda found: "used" in (found.get("status") or {}))
    workload = {"StatefulSet": stateful_set, "Deployment": deployment, "Job": job}[kind]
    stack = bed.stack({"name": "app", "manifests": [workload("db", place)]})
    says(stack, "Progressing", "exceeded quota: tight", f"{kind} {place}/db", "limited: pods=0")


def test_a_job_that_took_too_long_says_so(bed: Bed) -> None:
    place = bed.namespace()
    slow = job("once", place, runs=False, activeDeadlineSeconds=1)
    stack = bed.stack({"name": "app", "manifests": [slow]})
    says(stack, "Failed", "DeadlineExceeded", f"Job {place}/once", "longer than specified deadline")


def test_a_job_that_failed_says_how_its_last_pod_ended(bed: Bed) -> None:
    place = bed.namespace()
    stack = bed.stack({"name": "app", "manifests": [job("once", place, runs=False, backoffLimit=0)]})
    pods = f"/api/v1/namespaces/{place}/pods"
    bed.until(pods, lambda found: len(found["items"]) == 1)
    pod = bed.api.get(pods)["items"][0]["metadata"]["name"]
    ended = {"exitCode": 3, "reason": "Error", "message": "migrating\nno such table: users\n"}
    status = {"name": "main", "image": "app:1", "imageID": "", "ready": False, "restartCount": 0}
    failed = {"status": {"phase": "Failed", "containerStatuses": [{**status, "state": {"terminated": ended}}]}}
    bed.api.request("PATCH", f"{pods}/{pod}/status", failed, content_type="application/merge-patch+json")
    says(stack, "Failed", "BackoffLimitExceeded", f"Job {place}/once", "exited with code 3: no such table: users")


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_job_that_was_collected_is_not_run_again_not_even_after_a_restart(bed: Bed, ttl: int) -> None:
    place, since = bed.namespace(), bed.plane.audit_offset()
    stack = bed.stack({"name": "app", "manifests": [job("once", place, ttlSecondsAfterFinished=ttl)]})
    stack.ready()
    bed.until(jobs(place), lambda found: found is None)
    settle(1)
    stack.reconcile()
    assert made(bed, since, place) == 1
    bed.restart(crash=True)
    stack.ready()
    stack.reconcile()
    settle(1)
    assert stack.layer("app")["phase"] == "Ready"
    assert made(bed, since, place) == 1
    stack.edit("app", manifests=[job("once", place, image="app:2", ttlSecondsAfterFinished=ttl)])
    bed.until(f"/api/v1/namespaces/{place}", lambda _: made(bed, since, place) == 2)
    stack.ready()


def test_a_job_that_is_deleted_while_it_runs_is_made_again(bed: Bed) -> None:
    place, since = bed.namespace(), bed.plane.audit_offset()
    waiting = job("once", place, runs=False, ttlSecondsAfterFinished=0)
    stack = bed.stack({"name": "app", "manifests": [waiting, config_map("x", place)]})
    stack.phase("app", "Progressing", says="once")
    first = bed.api.get(jobs(place))["metadata"]["uid"]
    bed.api.delete(f"{jobs(place)}?propagationPolicy=Background")
    bed.until(jobs(place), lambda found: found is not None and found["metadata"]["uid"] != first)
    assert made(bed, since, place) == 2


def test_a_status_that_does_not_say_what_it_is_about_is_not_believed_after_a_change(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    definition = crd("Widget", group)
    definition["spec"]["versions"][0]["subresources"] = {"status": {}}
    path = f"/apis/{group}/v1/namespaces/{place}/widgets/one"

    def report(ready: str) -> None:
        status = {"conditions": [{"type": "Ready", "status": ready, "reason": "Told"}], "ready": ready}
        bed.api.request("PATCH", f"{path}/status", {"status": status}, content_type="application/merge-patch+json")

    def widget(size: int) -> Manifest:
        return custom("Widget", group, "one", place, spec={"size": size})

    stack = bed.stack({"name": "app", "manifests": [definition, widget(1)]})
    bed.until(path, lambda found: found is not None)
    report("True")
    stack.ready()
    stack.edit("app", manifests=[definition, widget(2)])
    stack.phase("app", "Progressing", says="has not looked at the last change yet")
    bed.restart(crash=True)
    stack.phase("app", "Progressing", says="has not looked at the last change yet")
    report("False")
    stack.phase("app", "Progressing", says="Ready is False")
    report("True")
    stack.ready()
