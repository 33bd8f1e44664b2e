"""What an object's health rests on besides itself: Events, how fresh its status is, and Jobs that were collected."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from msgspec import structs

from clusterstack.core.content import Desired
from clusterstack.core.health import EVENT, GRACE, Policy
from clusterstack.core.objects import Manifest, ObjectRef, ref_of
from clusterstack.engine.inquiry import PATIENCE
from clusterstack.engine.watches import MOST_EVENTS
from tests.engine.clock import settle
from tests.engine.cluster import ScriptedCluster
from tests.engine.home import Home, complete, config_map, custom, deployment, fail, job, keeping, layering

# -- Events


def claim(name: str) -> Manifest:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": name, "namespace": "apps"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def pod(name: str, owner: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "apps", "labels": {"app": owner}},
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Pending"},
    }


def warn(cluster: ScriptedCluster, about: ObjectRef, reason: str, message: str) -> ObjectRef:
    """A controller tells something about an object."""
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{reason}".lower(), "namespace": "apps"},
        "involvedObject": {"uid": cluster.objects[about]["metadata"]["uid"]},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": cluster.clock.text(),
    }
    return cluster.put(event)


def explained(cluster: ScriptedCluster) -> int:
    """How many objects' Events somebody watches."""
    watches = cluster._watches.values()
    return sum(watched.holders > 0 for watched in watches if watched.key.group_kind == EVENT)


def pending(cluster: ScriptedCluster, *refs: ObjectRef) -> None:
    for ref in refs:
        cluster.status(ref, {"phase": "Pending"})


async def test_a_claim_that_is_not_bound_is_explained_by_its_events_and_only_then(home: Home) -> None:
    desired = home.desire(claim("data"))
    async with keeping(home, desired) as bench:
        pending(home.cluster, desired.ref)
        warn(home.cluster, desired.ref, "ProvisioningFailed", "pool is full")
        await settle()
        assert bench.message(desired.ref) == "Pending: phase is Pending"
        assert explained(home.cluster) == 0
        await home.clock.advance(PATIENCE * 1.3)
        assert bench.message(desired.ref) == "ProvisioningFailed: ProvisioningFailed: pool is full"
        assert explained(home.cluster) == 1
        warn(home.cluster, desired.ref, "ProvisioningFailed", "pool is locked")
        await settle()
        assert bench.message(desired.ref).endswith("pool is locked")
        home.cluster.status(desired.ref, {"phase": "Bound"})
        await settle()
        assert bench.healthy
        assert explained(home.cluster) == 0


async def test_a_pod_that_does_not_start_speaks_for_its_workload(home: Home) -> None:
    desired = home.desire(deployment("web"))
    async with keeping(home, desired) as bench:
        home.cluster.status(desired.ref, {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1})
        first = home.cluster.put(pod("web-1", "web"))
        warn(home.cluster, first, "FailedMount", 'secret "web" not found')
        await home.clock.advance(PATIENCE * 1.3)
        assert bench.message(desired.ref).endswith('FailedMount: secret "web" not found')
        home.cluster.remove(first)
        second = home.cluster.put(pod("web-2", "web"))
        warn(home.cluster, second, "FailedMount", 'secret "token" not found')
        await settle()
        assert bench.message(desired.ref).endswith('FailedMount: secret "token" not found')
        assert explained(home.cluster) == 1


async def test_without_the_right_to_read_events_an_object_has_its_own_words(home: Home) -> None:
    desired = home.desire(claim("data"))
    async with keeping(home, desired) as bench:
        home.cluster.syncing = False  # as a watch that is refused
        pending(home.cluster, desired.ref)
        warn(home.cluster, desired.ref, "ProvisioningFailed", "pool is full")
        await home.clock.advance(PATIENCE * 3)
        assert bench.message(desired.ref) == "Pending: phase is Pending"
        home.cluster.withdraw("v1", "Event")
        home.cluster.status(desired.ref, {"phase": "Bound"})
        await settle()
        assert bench.healthy


async def test_only_so_many_objects_of_a_unit_are_explained_by_events_at_a_time(home: Home) -> None:
    desired = [home.desire(claim(f"data-{number}")) for number in range(MOST_EVENTS + 3)]
    async with keeping(home, *desired) as bench:
        pending(home.cluster, *(item.ref for item in desired))
        for item in desired:
            warn(home.cluster, item.ref, "ProvisioningFailed", "pool is full")
        await home.clock.advance(PATIENCE * 3)
        told = [item.ref for item in desired if bench.reason(item.ref) == "ProvisioningFailed"]
        assert len(told) == explained(home.cluster) == MOST_EVENTS
    assert home.cluster.held == 0


# -- freshness of a status


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def widget(home: Home, size: int = 1, **labels: str) -> Desired:
    manifest = custom("Widget", "w")
    manifest["spec"]["size"] = size
    manifest["metadata"]["labels"] = labels
    return home.desire(manifest)


@pytest.fixture
def widgets(home: Home) -> Home:
    home.cluster.serve("example.com/v1", "Widget", status=True)
    return home


async def test_a_status_from_before_our_change_is_not_believed_until_it_is_written_again(widgets: Home) -> None:
    desired = widget(widgets)
    async with keeping(widgets, desired) as bench:
        widgets.cluster.status(desired.ref, READY)
        await settle()
        assert bench.healthy
        await bench.want(widget(widgets, 2))  # within the same second
        assert bench.reason(desired.ref) == "StatusOutdated"
        widgets.cluster.status(
            desired.ref, {"conditions": [{"type": "Ready", "status": "False", "reason": "Resizing"}]}
        )
        await settle()
        assert bench.reason(desired.ref) == "Resizing"
        widgets.cluster.status(desired.ref, READY)
        await settle()
        assert bench.healthy
    assert widgets.clock.elapsed == 0.0


async def test_a_controller_that_has_nothing_to_write_is_believed_after_a_while(widgets: Home) -> None:
    desired = widget(widgets)
    async with keeping(widgets, desired) as bench:
        widgets.cluster.status(desired.ref, READY)
        await settle()
        await bench.want(widget(widgets, 2))
        assert not bench.healthy
        took = await widgets.clock.until(lambda: bench.healthy)
    assert GRACE <= took < GRACE * 1.5


async def test_a_change_that_raises_no_generation_leaves_the_status_as_good_as_it_was(widgets: Home) -> None:
    desired = widget(widgets)
    async with keeping(widgets, desired) as bench:
        widgets.cluster.status(desired.ref, READY)
        await widgets.clock.advance(60)
    widgets.restart()
    async with keeping(widgets, desired) as bench:
        assert bench.healthy
        await bench.want(widget(widgets, team="a"))
        assert widgets.cluster.objects[desired.ref]["metadata"]["labels"]["team"] == "a"
        assert bench.healthy


async def test_after_a_restart_the_times_of_the_last_writes_tell(widgets: Home) -> None:
    desired = widget(widgets)
    async with keeping(widgets, desired) as bench:
        widgets.cluster.status(desired.ref, READY)
        await widgets.clock.advance(60)
        await bench.want(widget(widgets, 2))
        assert bench.reason(desired.ref) == "StatusOutdated"
    widgets.restart()
    async with keeping(widgets, widget(widgets, 2)) as bench:
        assert bench.reason(desired.ref) == "StatusOutdated"
        took = await widgets.clock.until(lambda: bench.healthy)
    assert GRACE <= took < GRACE * 1.5
    widgets.restart()
    async with keeping(widgets, widget(widgets, 2)) as bench:
        assert bench.healthy


# -- Jobs with a time to live


def passing_job(home: Home, image: str = "app:1", **spec: object) -> Desired:
    manifest = copy.deepcopy(job("migrate"))
    manifest["spec"] |= {"ttlSecondsAfterFinished": 0, "template": {"spec": {"image": image}}, **spec}
    return home.desire(manifest)


def runs(home: Home) -> int:
    return [ref.kind for ref in home.cluster.of("apply")].count("Job")


def on_its_way_out(home: Home, ref: ObjectRef) -> None:
    """A Job that ended is being deleted before anybody looks at it."""
    home.cluster.withheld = []
    complete(home.cluster, ref)
    home.cluster.change(ref, lambda found: found["metadata"].update(deletionTimestamp=home.clock.text()))
    home.cluster.withheld = None
    home.cluster.show(ref)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("seen", ["complete", "on its way out", "in one burst"])
async def test_a_job_that_was_collected_after_it_was_complete_is_not_run_again(
    home: Home, policy: Policy, seen: str
) -> None:
    desired = passing_job(home)
    async with keeping(home, desired, policy=policy) as bench:
        if seen == "on its way out":
            on_its_way_out(home, desired.ref)
        else:
            complete(home.cluster, desired.ref)
        if seen != "in one burst":
            await settle()
        home.cluster.remove(desired.ref)
        await settle()
        assert bench.healthy
        bench.keeper.mark_all()
        await settle()
        assert bench.healthy
        await bench.ledger.flush()
    home.restart()
    async with keeping(home, desired, policy=policy) as bench:
        assert bench.healthy
    assert runs(home) == 1
    async with keeping(home, passing_job(home, "app:2"), policy=policy) as bench:
        home.cluster.remove(desired.ref)  # that one has not ended
        await settle()
        assert runs(home) == 3
        complete(home.cluster, desired.ref)
        await settle()
        assert bench.healthy


async def test_a_job_that_was_collected_after_it_failed_stays_failed_and_says_why(home: Home) -> None:
    desired = passing_job(home)
    for _ in range(2):
        async with keeping(home, desired) as bench:
            if desired.ref in home.cluster.objects:
                fail(home.cluster, desired.ref)
                await settle()
                home.cluster.remove(desired.ref)
                await settle()
            assert bench.message(desired.ref) == "BackoffLimitExceeded: BackoffLimitExceeded: gave up"
            assert desired.ref in bench.keeper.board.failures
            await bench.ledger.flush()
        home.restart()
    assert runs(home) == 1


def running(cluster: ScriptedCluster, ref: ObjectRef) -> None:
    cluster.status(ref, {"active": 1, "startTime": cluster.clock.text()})


@pytest.mark.parametrize(
    ("spec", "last"), [({}, running), ({"ttlSecondsAfterFinished": None}, complete)], ids=["running", "no time to live"]
)
async def test_any_other_job_that_is_gone_is_made_again(
    home: Home, spec: dict[str, object], last: Callable[[ScriptedCluster, ObjectRef], None]
) -> None:
    desired = passing_job(home)
    if spec:
        manifest = desired.manifest
        del manifest["spec"]["ttlSecondsAfterFinished"]
        desired = home.desire(manifest)
    async with keeping(home, desired):
        last(home.cluster, desired.ref)
        await settle()
        home.cluster.remove(desired.ref)
        await settle()
        assert desired.ref in home.cluster.objects
    assert runs(home) == 2


async def test_a_job_that_is_there_although_it_was_seen_to_end_is_kept_as_it_should_be(home: Home) -> None:
    desired = passing_job(home)
    async with keeping(home, desired, home.desire(config_map("a"))) as bench:
        complete(home.cluster, desired.ref)
        await settle()
        home.cluster.remove(desired.ref)
        await settle()
        home.cluster.put(job("migrate"))  # somebody runs it by hand; without our label no watch of ours shows it
        bench.keeper.mark(desired.ref)
        await settle()
        assert runs(home) == 2
        assert ref_of(desired.manifest) == desired.ref


async def test_only_the_very_job_that_was_made_can_have_ended(home: Home) -> None:
    desired = passing_job(home)
    async with keeping(home, desired) as bench:
        complete(home.cluster, desired.ref)
        ended = home.cluster.live(desired.ref)
        assert ended is not None
        home.cluster.remove(desired.ref)
        other = structs.replace(ended, uid="an earlier one")
        assert not bench.ledger.finished(desired.ref, desired, other)
        assert bench.ledger.finished(desired.ref, desired, ended)


async def test_how_a_job_ended_is_written_while_the_rest_of_its_layer_still_waits(home: Home) -> None:
    waiting = custom("Gadget", "g")
    manifest = passing_job(home).manifest
    async with layering(home) as bench:
        await bench.put(home.content(manifest, waiting))
        complete(home.cluster, ref_of(manifest))
        await settle()
        home.cluster.remove(ref_of(manifest))
        await settle()
        assert bench.phase == "Progressing"
    home.restart()
    async with layering(home) as bench:
        await bench.put(home.content(manifest, waiting))
        assert bench.phase == "Progressing"
        assert runs(home) == 1
