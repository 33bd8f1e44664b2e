"""One unit's objects: applied in order, parked, woken, corrected, remade and judged, each alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from clusterstack.core.content import Mode
from clusterstack.core.health import Policy
from clusterstack.core.inventory import Origin
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, ref_of
from clusterstack.core.ownership import DIGEST_ANNOTATION
from clusterstack.engine.keeper import Terms
from clusterstack.errors import ApiError, TransportError
from tests.engine.clock import settle
from tests.engine.cluster import Call, Gatekeeper
from tests.engine.home import (
    Home,
    available,
    config_map,
    crd,
    custom,
    deployment,
    establish,
    keeping,
    namespace,
    unavailable,
    webhook,
)

TERMS = Terms(account="", lane="")


def no_namespace(name: str) -> ApiError:
    return ApiError(f'namespaces "{name}" not found', status=404, reason="NotFound")


async def test_crds_and_namespaces_go_first_and_webhook_configurations_last(home: Home) -> None:
    manifests = [webhook("hook"), deployment("web"), config_map("a"), namespace("apps"), crd("Widget")]
    async with keeping(home, *(home.desire(manifest) for manifest in manifests)):
        available(home.cluster, ref_of(deployment("web")))
        await settle()
        kinds = [ref.kind for ref in home.cluster.of("apply") if ref.name != "clusterstack.home.base.0"]
    assert kinds == [
        "CustomResourceDefinition",
        "Namespace",
        "ConfigMap",
        "Deployment",
        "ValidatingWebhookConfiguration",
    ]


async def test_a_stage_begins_when_nothing_of_an_earlier_one_is_in_flight(home: Home) -> None:
    gate = Gatekeeper()
    home.cluster.before("apply", gate, "Namespace")
    async with keeping(home, home.desire(config_map("a")), home.desire(namespace("apps"))):
        assert [call.ref.kind for call in gate.waiting] == ["Namespace"]
        assert "a" not in [ref.name for ref in home.cluster.of("apply")]
        gate.open()
        await settle()
        assert "a" in [ref.name for ref in home.cluster.of("apply")]


async def test_a_new_webhook_configuration_waits_for_the_units_workloads_but_not_for_ever(home: Home) -> None:
    hook = home.desire(webhook("hook"))
    async with keeping(home, hook, home.desire(deployment("web"))):
        await home.clock.advance(25)
        assert hook.ref not in home.cluster.of("apply")
        await home.clock.advance(10)
        assert hook.ref in home.cluster.of("apply")


async def test_what_is_announced_is_in_the_inventory_before_it_is_applied(home: Home) -> None:
    async with keeping(home, home.desire(config_map("a"))):
        assert [ref.name for ref in home.cluster.of("apply")] == ["clusterstack.home.base.0", "a"]


async def test_an_object_whose_kind_is_not_served_waits_and_is_applied_as_soon_as_it_is(home: Home) -> None:
    widget = home.desire(custom("Widget", "w"))
    async with keeping(home, widget, home.desire(config_map("a")), policy=Policy.EXISTS) as bench:
        assert bench.message(widget.ref) == "KindNotServed: kind Widget.example.com is not served yet"
        assert bench.message(ObjectRef("", "ConfigMap", "apps", "a")) == ""
        assert not bench.keeper.board.failures
        home.cluster.serve("example.com/v1", "Widget")
        await settle()
        assert bench.healthy
    assert home.clock.elapsed == 0.0


async def test_what_changes_between_the_answer_and_the_wait_for_it_is_not_missed(home: Home) -> None:
    widget = home.desire(custom("Widget", "w"))
    served: list[object] = []

    def serve(call: Call) -> None:
        if not served:
            served.append(home.cluster.serve("example.com/v1", "Widget"))  # the answer on its way says: not served

    home.cluster.after("resource", serve, "Widget")
    async with keeping(home, widget, policy=Policy.EXISTS) as bench:
        assert bench.healthy
    assert home.clock.elapsed == 0.0


async def test_an_object_without_its_namespace_waits_and_is_applied_as_soon_as_it_is_there(home: Home) -> None:
    def script(call: Call) -> None:
        if ObjectRef("", "Namespace", "", "apps") not in home.cluster.objects:
            raise no_namespace("apps")

    home.cluster.before("apply", script, ObjectRef("", "ConfigMap", "apps", "a"))
    desired = home.desire(config_map("a"))
    async with keeping(home, desired) as bench:
        assert bench.message(desired.ref) == "NamespaceMissing: namespace apps does not exist yet"
        home.cluster.put(namespace("apps"))
        await settle()
        assert bench.healthy
    assert home.clock.elapsed == 0.0


async def test_what_no_fact_tells_is_tried_again_with_growing_pauses_up_to_thirty_seconds(home: Home) -> None:
    desired = home.desire(config_map("a"))
    tries: list[float] = []

    def script(call: Call) -> None:
        tries.append(home.clock.now())
        raise ApiError("exceeded quota: pods", status=403, reason="Forbidden")

    home.cluster.before("apply", script, desired.ref)
    async with keeping(home, desired) as bench:
        await home.clock.advance(300)
        assert bench.reason(desired.ref) == "QuotaExceeded"
        assert not bench.keeper.board.failures
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses[0] <= 0.6
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:6]))
    assert 24 <= pauses[-1] <= 36


async def test_a_refused_object_fails_at_once_and_is_tried_again_at_the_retry_interval(home: Home) -> None:
    desired, other = home.desire(config_map("a")), home.desire(config_map("b"))
    tries: list[float] = []

    def script(call: Call) -> None:
        tries.append(home.clock.now())
        if len(tries) < 3:
            raise ApiError("spec.x: Invalid value", status=422, reason="Invalid")

    home.cluster.before("apply", script, desired.ref)
    async with keeping(home, desired, other, terms=Terms(account="", lane="", retry_interval=60.0)) as bench:
        assert bench.reason(desired.ref) == "Invalid"
        assert bench.keeper.board.failures == {desired.ref}
        assert bench.message(other.ref) == ""
        await home.clock.until(lambda: bench.healthy)
    assert 2 * 48 <= tries[-1] <= 2 * 72


@pytest.mark.parametrize("error", [TransportError("no route", reason="Unreachable"), ApiError("oops", status=503)])
async def test_an_api_server_that_is_away_is_waited_for(home: Home, error: Exception) -> None:
    desired = home.desire(config_map("a"))
    home.cluster.before("apply", failing_until(home, 10.0, error), desired.ref)
    async with keeping(home, desired) as bench:
        assert not bench.keeper.board.failures
        await home.clock.until(lambda: bench.healthy)
    assert home.clock.elapsed <= 30


async def test_discovery_that_does_not_answer_is_waited_for_like_any_other_request(home: Home) -> None:
    desired = home.desire(custom("Widget", "w"))
    home.cluster.before("resource", failing_until(home, 10.0, TransportError("no route")), "Widget")
    async with keeping(home, desired, policy=Policy.EXISTS) as bench:
        assert bench.reason(desired.ref) == "ApiServerUnreachable"
        home.cluster.withdraw("v1", "Service")  # some other change of what is served
        home.cluster.serve("example.com/v1", "Widget")
        await home.clock.until(lambda: bench.healthy)


async def test_a_look_at_an_object_to_be_left_alone_that_fails_is_waited_for(home: Home) -> None:
    desired = home.desire(config_map("a"), mode=Mode.IF_NOT_PRESENT)
    home.cluster.before("get", failing_until(home, 10.0, TransportError("no route")), desired.ref)
    async with keeping(home, desired) as bench:
        assert bench.reason(desired.ref) == "ApiServerUnreachable"
        await home.clock.until(lambda: bench.healthy)
    assert desired.ref in home.cluster.of("apply")


async def test_drift_is_corrected_at_once(home: Home) -> None:
    desired = home.desire(config_map("a", key="ours"))
    async with keeping(home, desired) as bench:
        home.cluster.change(desired.ref, lambda found: found["data"].update(key="theirs"))
        await settle()
        assert home.cluster.objects[desired.ref]["data"] == {"key": "ours"}
        assert bench.healthy
    assert home.cluster.of("apply").count(desired.ref) == 2
    assert home.clock.elapsed == 0.0


async def test_drift_that_comes_before_our_own_write_is_answered_is_corrected(home: Home) -> None:
    desired = home.desire(config_map("a"))
    meddled: list[Call] = []

    def meddle(call: Call) -> None:
        if not meddled:
            meddled.append(call)
            home.cluster.change(desired.ref, lambda found: found["data"].update(key="theirs"), by="someone")

    home.cluster.after("apply", meddle, desired.ref)
    async with keeping(home, desired) as bench:
        assert await home.clock.until(lambda: len(meddled) == 1 and bench.healthy) < 1
        assert home.cluster.objects[desired.ref]["data"] == desired.manifest["data"]


async def test_a_late_write_of_our_own_older_content_counts_as_drift(home: Home) -> None:
    old, new = home.desire(config_map("a", key="old")), home.desire(config_map("a", key="new"))
    async with keeping(home, old) as bench:
        await bench.want(new)
        resource = home.cluster.preferred(GroupKind("", "ConfigMap"))
        assert resource is not None
        await home.cluster.apply(old.manifest, resource, manager="clusterstack")
        await settle()
        found = home.cluster.objects[new.ref]
    assert found["data"] == {"key": "new"}
    assert found["metadata"]["annotations"][DIGEST_ANNOTATION] == new.want


async def test_five_corrections_are_a_fight_which_is_reported_and_no_longer_fought(home: Home) -> None:
    desired = home.desire(config_map("a", key="ours"))

    def fight() -> None:
        home.cluster.change(desired.ref, lambda found: found["data"].update(key="theirs"), by="helmsman")

    def strike_back(call: Call) -> None:
        home.clock.later(1.0, fight)

    async with keeping(home, desired) as bench:
        home.cluster.after("apply", strike_back, desired.ref)
        fight()
        await home.clock.advance(60)
        assert home.cluster.of("apply").count(desired.ref) == 6
        assert bench.keeper.board.drifted == {desired.ref: "helmsman"}
        assert bench.healthy
        home.cluster.relent("apply")
        await home.clock.advance(700)
        assert home.cluster.objects[desired.ref]["data"] == {"key": "ours"}
        assert bench.keeper.board.drifted == {}


@pytest.mark.parametrize(("mode", "shown"), [("Report", {"someone"}), ("Ignore", set())])
async def test_drift_is_only_reported_or_ignored_where_the_spec_says_so(home: Home, mode: str, shown: set[str]) -> None:
    desired = home.desire(config_map("a", key="ours"))
    async with keeping(home, desired, terms=Terms(account="", lane="", drift=mode)) as bench:
        changes = bench.changes
        home.cluster.change(desired.ref, lambda found: found["data"].update(key="theirs"))
        await settle()
        assert home.cluster.objects[desired.ref]["data"] == {"key": "theirs"}
        assert set(bench.keeper.board.drifted.values()) == shown
        assert (bench.changes > changes) is bool(shown)  # whoever shows the drift must hear of it


async def test_objects_that_are_as_wanted_are_never_written_not_even_after_a_restart(home: Home) -> None:
    manifests = [config_map("a"), deployment("web"), namespace("apps")]
    async with keeping(home, *(home.desire(manifest) for manifest in manifests)) as bench:
        await bench.ledger.flush()
        writes = len(home.cluster.writes)
        bench.keeper.mark_all()
        await settle()
        assert len(home.cluster.writes) == writes
    home.restart()
    async with keeping(home, *(home.desire(manifest) for manifest in manifests)) as bench:
        bench.keeper.mark_all()
        await settle()
        assert not bench.keeper.board.unapplied
    assert len(home.cluster.writes) == writes


async def test_a_deleted_object_is_made_again(home: Home) -> None:
    desired = home.desire(config_map("a"))
    async with keeping(home, desired) as bench:
        first = home.cluster.objects[desired.ref]["metadata"]["uid"]
        home.cluster.remove(desired.ref)
        await settle()
        assert home.cluster.objects[desired.ref]["metadata"]["uid"] != first
        assert bench.healthy
        entry = bench.ledger.entry(desired.ref)
        assert entry is not None
        assert entry.uid == home.cluster.objects[desired.ref]["metadata"]["uid"]


async def test_an_object_on_its_way_out_is_not_corrected_and_is_made_again_once_it_is_gone(home: Home) -> None:
    desired = home.desire(config_map("a", key="ours"))
    async with keeping(home, desired) as bench:
        writes = len(home.cluster.writes)

        def going(found: Manifest) -> None:
            found["metadata"] |= {"deletionTimestamp": home.clock.text(), "finalizers": ["example.com/wait"]}

        home.cluster.change(desired.ref, going)
        await settle()
        assert bench.reason(desired.ref) == "Terminating"
        assert len(home.cluster.writes) == writes
        home.cluster.remove(desired.ref)
        await settle()
        assert bench.healthy


async def test_an_object_to_be_made_only_if_absent_is_left_as_it_is_when_it_is_there(home: Home) -> None:
    theirs = home.cluster.put(config_map("a", key="theirs"))
    desired = home.desire(config_map("a", key="ours"), mode=Mode.IF_NOT_PRESENT)
    async with keeping(home, desired) as bench:
        assert bench.healthy
        assert desired.ref not in home.cluster.of("apply")
        home.cluster.remove(theirs)
        await settle()
        assert home.cluster.objects[desired.ref]["data"] == {"key": "ours"}
        home.cluster.change(desired.ref, lambda found: found["data"].update(key="edited"))
        await settle()
        assert home.cluster.objects[desired.ref]["data"] == {"key": "edited"}


async def test_an_object_to_be_ignored_is_neither_made_nor_waited_for(home: Home) -> None:
    desired = home.desire(config_map("a"), mode=Mode.IGNORE)
    async with keeping(home, desired) as bench:
        assert bench.healthy
    assert desired.ref not in home.cluster.of("apply")


async def test_the_verdict_follows_every_change_of_the_live_object(home: Home) -> None:
    desired = home.desire(deployment("web"))
    async with keeping(home, desired) as bench:
        assert not bench.healthy
        available(home.cluster, desired.ref)
        await settle()
        assert bench.healthy
        changes = bench.changes
        unavailable(home.cluster, desired.ref)
        await settle()
        assert not bench.healthy
        assert bench.changes > changes
        available(home.cluster, desired.ref)
        await settle()
        assert bench.healthy
    assert home.cluster.of("apply").count(desired.ref) == 1


async def test_an_object_that_was_there_before_us_is_adopted_and_one_that_we_made_is_created(home: Home) -> None:
    home.cluster.put(config_map("old"))
    async with keeping(home, home.desire(config_map("old")), home.desire(config_map("new"))) as bench:
        origins = {entry.ref.name: entry.origin for entry in bench.ledger.entries()}
    assert origins == {"old": Origin.ADOPTED, "new": Origin.CREATED}


async def test_an_object_that_somebody_made_while_ours_was_parked_is_adopted(home: Home) -> None:
    desired = home.desire(config_map("a"))
    home.cluster.before("apply", failing_until(home, 5.0, no_namespace("apps")), desired.ref)
    async with keeping(home, desired) as bench:
        await home.clock.advance(3)
        home.cluster.put(config_map("a", made="by a controller"))
        await home.clock.until(lambda: bench.healthy)
        entry = bench.ledger.entry(desired.ref)
        assert entry is not None
        assert entry.origin is Origin.ADOPTED


@pytest.mark.parametrize("reason", ["Timeout", "Disconnected"])
async def test_an_object_whose_creation_was_not_answered_is_still_known_as_created(home: Home, reason: str) -> None:
    desired = home.desire(config_map("a"))
    failures = [TransportError("cut", reason=reason)]

    def cut(call: Call) -> None:
        if failures:
            home.cluster.withheld = []
            raise failures.pop()

    home.cluster.after("apply", cut, desired.ref)
    async with keeping(home, desired) as bench:
        await home.clock.until(lambda: bench.healthy)
        entry = bench.ledger.entry(desired.ref)
        assert entry is not None
        assert entry.origin is Origin.CREATED


async def test_what_is_no_longer_wanted_is_left_as_it_is_also_in_the_middle_of_its_write(home: Home) -> None:
    first, second = home.desire(config_map("a")), home.desire(config_map("b"))
    gate = Gatekeeper()
    home.cluster.before("apply", gate, first.ref)
    async with keeping(home, first, second) as bench:
        await bench.want(second)
        gate.open()
        await settle()
        assert set(bench.keeper.board.states) == {second.ref}
        entry = bench.ledger.entry(first.ref)
        assert entry is not None
        assert entry.uid  # it was made after all, and can be proven ours when it is swept


@pytest.mark.parametrize("verb", ["get", "resource"])
async def test_what_is_no_longer_wanted_may_go_in_the_middle_of_a_look_at_it(home: Home, verb: str) -> None:
    manifest = config_map("a") if verb == "get" else custom("Widget", "w")
    first, second = home.desire(manifest, mode=Mode.IF_NOT_PRESENT), home.desire(config_map("b"))
    if verb == "get":
        home.cluster.put(manifest)
    gate = Gatekeeper()
    home.cluster.before(verb, gate, first.ref.kind)
    async with keeping(home, first, second) as bench:
        await bench.want(second)
        gate.open()
        await settle()
        assert set(bench.keeper.board.states) == {second.ref}
        assert bench.healthy


async def test_new_content_of_an_object_counts_as_not_applied_until_it_is_written(home: Home) -> None:
    desired, gate = home.desire(config_map("a", key="1")), Gatekeeper()
    async with keeping(home, desired) as bench:
        home.cluster.before("apply", gate, desired.ref)
        await bench.want(home.desire(config_map("a", key="2")))
        assert bench.keeper.board.unapplied == {desired.ref}
        gate.open()
        await settle()
        assert bench.healthy


async def test_a_crd_and_its_resource_come_up_together_in_one_unit(home: Home) -> None:
    definition, resource = home.desire(crd("Widget")), home.desire(custom("Widget", "w"))
    async with keeping(home, resource, definition) as bench:
        assert bench.reason(resource.ref) == "KindNotServed"
        establish(home.cluster, crd("Widget"))
        await settle()
        assert resource.ref in home.cluster.of("apply")
        await home.clock.until(lambda: bench.healthy)  # a kind without status is given time to show one


async def test_closing_lets_go_of_every_watch_and_timer(home: Home) -> None:
    manifests = [config_map("a"), deployment("web"), custom("Widget", "w"), webhook("hook")]
    home.cluster.before("apply", failing_until(home, 1e9, no_namespace("apps")), ref_of(manifests[0]))
    async with keeping(home, *(home.desire(manifest) for manifest in manifests)):
        assert home.cluster.held
    assert home.cluster.held == 0
    assert home.clock.pending == 0


def failing_until(home: Home, time: float, error: Exception) -> Callable[[Call], None]:
    """A script that fails until a time."""

    def script(call: Call) -> None:
        if home.clock.now() < time:
            raise error

    return script


def test_refs_of_these_tests_are_as_the_api_server_names_them() -> None:
    assert ref_of(config_map("a")) == ObjectRef("", "ConfigMap", "apps", "a")


async def test_a_job_whose_template_changed_is_replaced_once_the_old_one_is_gone(home: Home) -> None:
    home.cluster.serve("batch/v1", "Job")
    job: Manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", "namespace": "apps"}}
    first, second = home.desire({**job, "spec": {"template": 1}}), home.desire({**job, "spec": {"template": 2}})

    def script(call: Call) -> None:
        if home.cluster.objects.get(first.ref) is not None:
            raise ApiError("spec.template: field is immutable", status=422, reason="Invalid")

    async with keeping(home, first) as bench:
        before = home.cluster.objects[first.ref]["metadata"]["uid"]
        home.cluster.before("apply", script, first.ref)
        await bench.want(second)
        await settle()
        assert home.cluster.objects[first.ref]["metadata"]["uid"] != before
        assert home.cluster.of("delete") == [first.ref]


async def test_a_kind_without_a_rule_is_believed_without_a_status_only_after_a_while(home: Home) -> None:
    home.cluster.serve("example.com/v1", "Gadget", status=True)
    desired = home.desire(custom("Gadget", "a"))
    async with keeping(home, desired) as bench:
        await settle()
        assert bench.reason(desired.ref) == "NoStatus"
        await home.clock.advance(40)
        assert bench.healthy
