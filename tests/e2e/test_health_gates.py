"""Gates beyond status: webhooks that answer, aggregated APIs that are there; and what Flux's gate lets pass."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from testbed import pki
from testbed.gitrepo import GitRepository
from tests.cluster.test_service_addresses import https_server

from .bed import Bed, Manifest, Stack, condition, config_map, settle, unique
from .objects import CRDS, crd, custom, deployment, let_run, source, text
from .test_stack_flux import kustomization, repository
from .test_stack_git import at_commit
from .test_stack_kinds import WEBHOOKS, allow, guarded, webhook_configuration

pytestmark = pytest.mark.e2e

HERD = 500
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


def server(name: str, place: str) -> tuple[Manifest, Manifest]:
    """The Service of a webhook, and the Deployment behind it, which does not run before `let_run`."""
    spec = {"ports": [{"port": 443, "targetPort": 9443}], "selector": {"app": name}}
    metadata = {"name": name, "namespace": place}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    return service, deployment(name, place, runs=False)


def in_force(bed: Bed, name: str, place: str) -> None:
    """A new webhook configuration takes a moment to be in force."""
    for attempt in range(200):
        probe = json.dumps(guarded(f"probe-{attempt}", place, name)).encode()
        code, _ = bed.api.raw("POST", f"/api/v1/namespaces/{place}/configmaps", probe)
        if code == 500:
            return
    raise AssertionError("the webhook is never asked")


def asked(bed: Bed, place: str, since: int) -> tuple[int, int]:
    """Writes and dry runs of guarded ConfigMaps by the operator, refused ones too."""
    path = f"/api/v1/namespaces/{place}/configmaps/held-"
    events = [event for event in bed.plane.audit(since) if event["verb"] == "patch"]
    found = [event["requestURI"] for event in events if event["requestURI"].startswith(path)]
    rehearsals = sum("dryRun=All" in uri for uri in found)
    return len(found) - rehearsals, rehearsals


def there(bed: Bed, place: str) -> int:
    items = bed.api.get(f"/api/v1/namespaces/{place}/configmaps")["items"]
    return sum(item["metadata"]["name"].startswith("held-") for item in items)


def test_a_herd_behind_one_webhook_asks_with_one_voice_and_goes_together(bed: Bed, tmp_path: Path) -> None:
    if not bed.plane.access.webhooks:
        pytest.skip("needs the right to listen on port 443")
    place, name, ca = bed.namespace(), unique("guard"), pki.authority("webhook-ca")
    service, behind = server(name, "default")
    address = bed.api.create("/api/v1/namespaces/default/services", service)["spec"]["clusterIP"]
    bed.api.create("/apis/apps/v1/namespaces/default/deployments", behind)
    bed.api.create(WEBHOOKS, webhook_configuration(name, "default", ca))
    in_force(bed, name, place)
    begun = bed.plane.audit_offset()
    held = [guarded(f"held-{number}", place, name) for number in range(HERD)]
    stack = bed.stack({"name": "app", "manifests": [*held, config_map("free", place)]})
    stack.phase(
        "app", "Progressing", says=f"webhook {name}.example.org of service default/{name} has no ready endpoints"
    )
    bed.until(f"/api/v1/namespaces/{place}/configmaps/free", lambda found: found is not None)
    settle(1)
    assert asked(bed, place, begun)[0] == HERD
    waiting = bed.plane.audit_offset()
    settle(6)
    writes, rehearsals = asked(bed, place, waiting)
    assert (writes, rehearsals <= 2) == (0, True)
    with https_server(address, ca, name, tmp_path, allow):
        opening = bed.plane.audit_offset()
        let_run(bed.api, name, "default")
        bed.until(f"/apis/apps/v1/namespaces/default/deployments/{name}", _available)
        up = time.monotonic()
        while there(bed, place) < HERD:
            assert time.monotonic() - up < 30, there(bed, place)
            time.sleep(0.05)
        took = time.monotonic() - up
        stack.ready()
    writes, tries = asked(bed, place, opening)
    figures = {"objects": HERD, "dry_runs_waiting": rehearsals, "dry_runs_opening": tries, "seconds": round(took, 2)}
    print(json.dumps(figures | {"writes_waiting": 0, "writes_opening": writes}))
    assert HERD <= writes <= HERD * 1.2  # a small server may well drop a few of so many calls at once
    assert tries <= HERD * 0.1


def _available(found: Any) -> bool:
    return bool(found.get("status", {}).get("readyReplicas"))


def test_a_webhook_configuration_is_healthy_once_its_server_has_endpoints(bed: Bed) -> None:
    place, name = bed.namespace(), unique("guard")
    service, behind = server(name, place)
    bed.api.create(f"/apis/apps/v1/namespaces/{place}/deployments", behind)
    selecting = {**service, "spec": {**service["spec"], "publishNotReadyAddresses": False}}
    bed.api.create(f"/api/v1/namespaces/{place}/services", selecting)
    stack = bed.stack({"name": "app", "manifests": [webhook_configuration(name, place, pki.authority("webhook-ca"))]})
    waiting = f"waits for ready endpoints of service {place}/{name}"
    stack.phase("app", "Progressing", says=waiting)
    let_run(bed.api, name, place)
    stack.ready()
    assert bed.api.delete(f"{WEBHOOKS}/{name}") is not None


def test_objects_of_an_aggregated_api_that_is_down_wait_in_the_words_of_its_api_service(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    spec = {"group": group, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100}
    behind = {"service": {"namespace": place, "name": "nobody"}, "insecureSkipTLSVerify": True}
    name = f"v1.{group}"
    api_service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name}}
    bed.api.create(API_SERVICES, {**api_service, "spec": {**spec, **behind}})
    try:
        stack = bed.stack({"name": "app", "manifests": [custom("Widget", group, "one", place)]})
        stack.phase("app", "Progressing", says=f"APIService {name} is not Available: ServiceNotFound")
    finally:
        bed.api.delete(f"{API_SERVICES}/{name}")
    bed.api.create(CRDS, crd("Widget", group))
    stack.ready()


def test_an_object_in_a_version_that_is_not_served_is_told_which_are(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    bed.api.create(CRDS, crd("Widget", group))
    newer = {**custom("Widget", group, "one", place), "apiVersion": f"{group}/v2"}
    stack = bed.stack({"name": "app", "manifests": [newer]})
    stack.phase("app", "Progressing", says="version v2 of kind Widget." + group + " is not served (served: v1)")


def test_objects_of_a_crd_whose_names_are_taken_are_told_so(bed: Bed) -> None:
    place, group = bed.namespace(), f"{unique('g')}.example.org"
    bed.api.create(CRDS, crd("Widget", group))
    bed.until(f"{CRDS}/widgets.{group}", lambda found: condition(found, "Established").get("status") == "True")
    other = crd("Gadget", group)
    other["spec"]["names"]["shortNames"] = ["widgets"]
    stack = bed.stack({"name": "app", "manifests": [other, custom("Gadget", group, "one", place)]})
    expected = 'NamesAccepted=False: ShortNamesConflict: "widgets" is already in use'

    def told(found: Any) -> bool:
        blocking = (found or {}).get("status", {}).get("blocking") or ()
        return any(one["reason"] == "CRDNotEstablished" and expected in one["message"] for one in blocking)

    bed.until(stack.layer_path("app"), told)


def kafka_crd() -> Manifest:
    """The kind as far as health is concerned: a status that only its controller writes."""
    made = crd("Kafka", "kafka.strimzi.io")
    made["spec"]["names"]["plural"], made["metadata"]["name"] = "kafkas", "kafkas.kafka.strimzi.io"
    version = made["spec"]["versions"][0]
    version["name"], version["subresources"] = "v1beta2", {"status": {}}
    return made


def tell(bed: Bed, path: str, status: Manifest) -> None:
    bed.api.request("PATCH", f"{path}/status", {"status": status}, content_type="application/merge-patch+json")


@pytest.mark.parametrize("policy", [None, "Strict"])
def test_a_flux_layer_is_ready_as_flux_has_it_and_shown_as_it_is(
    bed: Bed, git: GitRepository, policy: str | None
) -> None:
    place = bed.namespace()
    if bed.api.find(f"{CRDS}/kafkas.kafka.strimzi.io") is None:
        bed.api.create(CRDS, kafka_crd())
        bed.until(f"{CRDS}/kafkas.kafka.strimzi.io", lambda found: condition(found, "Established") != {})
    kafka = {
        "apiVersion": "kafka.strimzi.io/v1beta2",
        "kind": "Kafka",
        "metadata": {"name": "main", "namespace": place},
    }
    sync = text(repository(git), kustomization("flux-system", "./clusters/home"))
    commit = git.commit(
        "Bootstrap",
        {
            "clusters/home/gotk-sync.yaml": sync,
            "clusters/home/messaging.yaml": text(kustomization("messaging", "./messaging", wait=True)),
            "messaging/kafka.yaml": text({**kafka, "spec": {}}),
        },
    )
    defaults = {"retryInterval": "1s", "timeout": "60s", **({"health": {"policy": policy}} if policy else {})}
    stack = Stack(bed, unique("s"), {"flux": {"path": "clusters/home"}, "sources": source(git), "defaults": defaults})
    stack.apply()
    bed.stacks.append(stack)
    path = f"/apis/kafka.strimzi.io/v1beta2/namespaces/{place}/kafkas/main"
    bed.until(path, lambda found: found is not None)
    tell(bed, path, {"conditions": [{"type": "NotReady", "status": "True", "reason": "Creating"}]})
    shown = bed.until(
        stack.layer_path("messaging"), lambda found: "Creating" in condition(found, "Healthy").get("message", "")
    )
    assert condition(shown, "Healthy")["status"] == "False"
    assert condition(shown, "Healthy")["message"].startswith(f"Kafka {place}/main")
    assert condition(shown, "Ready")["status"] == ("False" if policy else "True")
    if policy is None:
        at_commit(stack, commit)
        bed.until(stack.path, lambda found: condition(found, "Healthy")["status"] == "False")
    tell(bed, path, {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]})
    bed.until(stack.layer_path("messaging"), lambda found: condition(found, "Healthy")["status"] == "True")
    at_commit(stack, commit)
