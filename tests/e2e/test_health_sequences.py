"""What controllers write step by step, through their real CRDs: no dependant starts too early, and none is stuck late.

A layer holds one object, another depends on it. The test plays the controller; after each step it waits until the
operator shows exactly that step, so that what did not happen was seen not to happen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from testbed.definitions import definitions
from testbed.homelab import location

from .bed import USER_AGENT, Bed, Manifest, Stack, a_bed, condition, config_map, wait_for
from .conftest import a_cluster
from .objects import CRDS
from .sequence import Beside, Sequence, Step
from .sequences import HAND_MADE, sequences

pytestmark = pytest.mark.e2e
SEQUENCES = sequences()


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A cluster of this module's own: it serves kinds that its neighbours expect not to be there."""
    workdir: Path = tmp_path_factory.mktemp("sequences")
    with a_cluster(workdir / "plane") as plane, a_bed(plane, workdir) as bed:
        yield bed


@pytest.fixture(scope="module")
def kinds(bed: Bed) -> Mapping[str, Manifest]:
    """The definitions of all kinds, served."""
    data = location()
    if data is None:
        pytest.skip("the CRDs come from the homelab data set; HOMELAB= names its folder")
    wanted = {name for sequence in SEQUENCES for name in sequence.crds}
    found = {**definitions(data, *(wanted - HAND_MADE.keys())), **HAND_MADE}
    for definition in found.values():
        bed.api.create(CRDS, definition)
    return found


@pytest.fixture(scope="module")
def played(bed: Bed, kinds: Mapping[str, Manifest]) -> Iterator[Mapping[str, Future[Scene]]]:
    """All sequences side by side, by title, each with its own stack: statuses are published once a second at most."""
    with ThreadPoolExecutor(len(SEQUENCES)) as stages:
        yield {one.title: stages.submit(play, Scene(bed, kinds, one), one) for one in SEQUENCES}


def play(scene: Scene, sequence: Sequence) -> Scene:
    for step in sequence.steps:
        scene.play(step)
    scene.stack.ready()
    return scene


@pytest.mark.parametrize("title", [sequence.title for sequence in SEQUENCES])
def test_what_depends_on_an_object_starts_when_it_is_healthy_and_not_before(
    played: Mapping[str, Future[Scene]], title: str
) -> None:
    played[title].result()


def test_the_csv_of_a_subscription_is_followed_by_a_watch_and_never_asked_for(
    bed: Bed, played: Mapping[str, Future[Scene]]
) -> None:
    place = played["a Subscription"].result().place
    asked = [
        (event["verb"], event["requestURI"])
        for event in bed.plane.audit()
        if event.get("userAgent", "").startswith(USER_AGENT)
        and f"{place}/clusterserviceversions" in event["requestURI"]
    ]
    assert {verb for verb, _ in asked} <= {"list", "watch"}
    listed = Counter(uri for verb, uri in asked if verb == "list")
    assert {parse_qs(uri.partition("?")[2])["fieldSelector"][0] for uri in listed} == {
        "metadata.name=it.v1",
        "metadata.name=it.v2",
    }
    assert max(listed.values()) <= 2  # the first watch of a kind that was just installed may have to start again


@pytest.mark.parametrize(
    ("title", "steps"),
    [("a Subscription", 5), ("an object of an unknown kind whose controller reports a condition", 4)],
)
def test_a_restarted_operator_waits_on_where_it_was(
    bed: Bed, kinds: Mapping[str, Manifest], played: Mapping[str, Future[Scene]], title: str, steps: int
) -> None:
    assert all(one.exception() is None for one in played.values())  # and none of them meets the restart
    sequence = next(one for one in SEQUENCES if one.title == title)
    scene = Scene(bed, kinds, sequence)
    for step in sequence.steps[:steps]:
        second = int(time.time())
        wait_for(lambda since=second: int(time.time()) > since)  # type: ignore[misc]  # the server's clock has seconds
        scene.play(step)
    bed.restart(crash=True)
    scene.stack.reconcile()
    scene.play(replace(sequence.steps[steps - 1], status=None, spec=None, beside=None))
    for step in sequence.steps[steps:]:
        scene.play(step)


class Scene:
    """One object on its way: the layer `below` holds it, `above` depends on that, in waves of new content.

    `shipped` is the last wave that `above` was allowed to apply.
    """

    def __init__(self, bed: Bed, found: Mapping[str, Manifest], sequence: Sequence) -> None:
        self.bed, self._definitions, self._crd = bed, found, found[sequence.crd]
        self.place = bed.namespace()
        self._spec, self.wave, self.shipped = sequence.spec, 1, 0
        self._beside: set[str] = set()
        self.stack = bed.stack(
            {"name": "below", "manifests": [self._manifest()]},
            {"name": "above", "dependsOn": ["below"], "manifests": [self._dependant()]},
            defaults={"retryInterval": "1s", "timeout": "10m"},
        )
        self.path = f"{collection(self._crd, self.place)}/it"
        bed.until(self.path, lambda live: live is not None)

    def play(self, step: Step) -> None:
        """Have it happen, and check what the layers show."""
        if step.spec is not None:
            self._respecify(step.spec)
        if step.status is not None:
            put_status(self.bed, self._crd, self.path, step.status)
        if step.beside is not None:
            self._change(step.beside)
        if step.reason:
            shows(self.stack, step)
            self._nothing_above()
        else:
            self._above_follows(step.patience)

    def _respecify(self, spec: Mapping[str, Any]) -> None:
        """Give both layers new content at once, and wait until the object has its own."""
        before = self.bed.api.get(self.path)["metadata"]["generation"]
        self._spec, self.wave = spec, self.wave + 1
        below, above = self.stack.spec["layers"]
        below["manifests"], above["manifests"] = [self._manifest()], [self._dependant()]
        self.stack.apply()
        self.bed.until(self.path, lambda live: live["metadata"]["generation"] > before)

    def _nothing_above(self) -> None:
        """What the dependant has is what it had before the object began to change."""
        self.bed.until(self.stack.layer_path("above"), self._waits if self.shipped < self.wave else _is_ready)
        assert self._size() == self.shipped

    def _waits(self, found: Any) -> bool:
        status = (found or {}).get("status") or {}
        waiting = [one.get("layer") for one in status.get("waitingOn") or ()]
        return (status.get("phase"), waiting) == ("Waiting", ["below"])

    def _above_follows(self, patience: float) -> None:
        wait_for(lambda: self._size() == self.wave, timeout=patience)
        self.stack.phase("below", "Ready")
        self.stack.phase("above", "Ready")
        self.shipped = self.wave

    def _size(self) -> int:
        """The wave whose ConfigMap is there; 0 before the first."""
        live = self.bed.api.find(f"/api/v1/namespaces/{self.place}/configmaps/above")
        return int(live["data"]["wave"]) if live else 0

    def _dependant(self) -> Manifest:
        return config_map("above", self.place, wave=str(self.wave))

    def _manifest(self) -> Manifest:
        return manifest(self._crd, "it", self.place, self._spec)

    def _change(self, beside: Beside) -> None:
        definition = self._definitions[beside.crd]
        within = collection(definition, self.place)
        if beside.name not in self._beside:
            self._beside.add(beside.name)
            self.bed.api.create(within, manifest(definition, beside.name, self.place, beside.spec))
        put_status(self.bed, definition, f"{within}/{beside.name}", beside.status)


def _is_ready(found: Any) -> bool:
    return bool(found["status"]["phase"] == "Ready")


def storage(definition: Manifest) -> Manifest:
    """The version of a kind that all of this uses."""
    return next(one for one in definition["spec"]["versions"] if one["storage"])


def collection(definition: Manifest, place: str) -> str:
    spec = definition["spec"]
    return f"/apis/{spec['group']}/{storage(definition)['name']}/namespaces/{place}/{spec['names']['plural']}"


def manifest(definition: Manifest, name: str, place: str, spec: Mapping[str, Any]) -> Manifest:
    group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
    return {
        "apiVersion": f"{group}/{storage(definition)['name']}",
        "kind": kind,
        "metadata": {"name": name, "namespace": place},
        "spec": dict(spec),
    }


def put_status(bed: Bed, definition: Manifest, path: str, status: Mapping[str, Any]) -> None:
    """Write a whole status, as a controller does; the schema must keep all of it."""
    where = f"{path}/status" if "status" in storage(definition).get("subresources", {}) else path
    patch = [{"op": "add", "path": "/status", "value": status}]
    stored = bed.api.request("PATCH", where, patch, content_type="application/json-patch+json")
    assert keeps(stored["status"], status), f"the schema keeps of {status} only {stored['status']}"


def keeps(stored: Any, said: Any) -> bool:
    """Whether all that was said was stored; defaults may have been added."""
    match said:
        case Mapping():
            return isinstance(stored, Mapping) and all(keeps(stored.get(name), value) for name, value in said.items())
        case list():
            return len(stored) == len(said) and all(keeps(*pair) for pair in zip(stored, said, strict=True))
        case _:
            return bool(stored == said)


def shows(stack: Stack, step: Step) -> Manifest:
    """The status of the layer `below` once it says that its object is as `step` expects, in so many words."""

    def holds(found: Any) -> bool:
        status = (found or {}).get("status") or {}
        blocking = (status.get("blocking") or [{}])[0]
        told = (status.get("phase"), blocking.get("name"), blocking.get("reason"))
        return told == (step.phase, "it", step.reason) and step.message in blocking.get("message", "")

    try:
        found = stack.bed.until(stack.layer_path("below"), holds, timeout=step.patience)
    except AssertionError:
        now = stack.layer("below")
        shown = f"{now['phase']}, {now.get('blocking') or now['message']}"
        raise AssertionError(f"expected: {step.phase}, {step.reason}: {step.message}\nshown: {shown}") from None
    assert len(found["status"]["blocking"]) == 1
    ready = condition(found, "Ready")
    assert ready["status"] == ("False" if step.phase == "Failed" else ready["status"])
    assert ready["status"] != "True"
    assert "it" in found["status"]["message"]
    return dict(found["status"])
