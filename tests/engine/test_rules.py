"""The cluster's health rules: read before anything is judged, followed from then on, kept while they cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from clusterstack.core.health import Context as Surroundings
from clusterstack.core.health import RuleSet, State, judge
from clusterstack.core.objects import Manifest, ObjectRef, ref_of
from clusterstack.core.views import RulesView
from clusterstack.engine.rules import CONFIG_MAP_NAME, RuleBook, StackRules
from clusterstack.errors import ApiError, SpecError, TransportError
from tests.engine.clock import settle
from tests.engine.cluster import Call
from tests.engine.home import NAMESPACE, Home, config_map, custom, layering, running

WIDGET = {**custom("Widget", "w"), "status": {"phase": "Half"}}
THERE = ObjectRef("", "ConfigMap", NAMESPACE, CONFIG_MAP_NAME)


def rule(phase: str) -> Manifest:
    current = f"has(status.phase) && status.phase == '{phase}'"
    return {"apiVersion": "example.com/v1", "kind": "Widget", "current": current}


def published(home: Home, *phases: str) -> ObjectRef:
    lines = [
        f"- {{for: [example.com/Widget], current: \"has(status.phase) && status.phase == '{one}'\"}}" for one in phases
    ]
    return home.cluster.put(config_map(CONFIG_MAP_NAME, NAMESPACE, widgets="\n".join(lines)))


def state(rules: RuleSet) -> State:
    return judge(WIDGET, Surroundings(rules=rules)).state


def book(home: Home, told: list[Any] | None = None) -> RuleBook:
    heard: list[Any] = [] if told is None else told
    return RuleBook(home.cluster, home.clock, home.rules, namespace=NAMESPACE, told=lambda *one: heard.append(one))


async def test_the_rules_are_there_before_anything_is_judged_and_followed_afterwards(home: Home) -> None:
    told: list[tuple[Manifest, RulesView]] = []
    published(home, "Up")
    made = book(home, told)
    await made.start()
    assert state(made.rules) is State.IN_PROGRESS
    async with running(made.run()):
        assert told == [], "what a start finds is no news"
        published(home, "Half")
        await settle()
        assert state(made.rules) is State.CURRENT
        assert [view.count for _, view in told] == [1]
        home.cluster.remove(THERE)
        await settle()
        assert made.view is None
        assert made.rules is home.rules


async def test_a_version_with_the_same_rules_is_no_news(home: Home) -> None:
    published(home, "Up")
    made = book(home)
    await made.start()
    async with running(made.run()):
        before, since = made.rules, home.cluster.facts.now
        home.cluster.change(THERE, lambda found: found["metadata"].update(labels={"a": "b"}))
        await settle()
        assert made.rules is before
        assert not home.cluster.facts.changed_since(made.key, since)


@pytest.mark.parametrize("error", [TransportError("no answer"), ApiError("busy", status=503, reason="Unavailable")])
async def test_a_start_waits_for_the_api_server(home: Home, error: Exception) -> None:
    published(home, "Up")
    failures = [error, error]

    def fail(_: Call) -> None:
        if failures:
            raise failures.pop()

    home.cluster.before("get", fail, THERE)
    made = book(home)
    async with running(made.start()) as starting:
        assert not starting.done()
        await home.clock.until(starting.done, limit=60)
    assert state(made.rules) is State.IN_PROGRESS


async def test_rules_that_may_not_be_read_hold_nobody_up_and_are_told(home: Home) -> None:
    published(home, "Up")

    def deny(_: Call) -> None:
        raise ApiError("configmaps is forbidden", status=403, reason="Forbidden")

    home.cluster.before("get", deny, THERE)
    made = book(home)
    async with running(made.start()) as starting:
        await home.clock.until(starting.done, limit=60)
    assert made.rules is home.rules
    assert made.view is not None
    assert made.view.problems[0].startswith("cannot be read: ")
    home.cluster.relent("get")
    async with running(made.run()):
        assert made.view == RulesView(str(THERE), count=1)


async def test_the_last_rules_hold_while_newer_ones_cannot_be_read(home: Home) -> None:
    published(home, "Up")
    made = book(home)
    await made.start()
    async with running(made.run()):

        def fail(_: Call) -> None:
            raise TransportError("no answer")

        home.cluster.before("get", fail, THERE)
        published(home, "Half")
        await settle()
        assert state(made.rules) is State.IN_PROGRESS
        home.cluster.relent("get")
        await home.clock.until(lambda: state(made.rules) is State.CURRENT, limit=60)


async def test_a_layer_is_judged_anew_when_the_rules_change_and_nothing_is_written_to_its_objects(home: Home) -> None:
    home.cluster.serve("example.com/v1", "Widget", status=True)
    widget = ref_of(WIDGET)
    async with running(home.book.run()), layering(home) as bench:
        await bench.put(home.content(custom("Widget", "w")))
        home.cluster.status(widget, {"phase": "Half", "conditions": [{"type": "Ready", "status": "False"}]})
        await settle()
        assert bench.phase == "Progressing"
        written = home.cluster.of("apply").count(widget)
        published(home, "Half")
        await bench.ready()
        home.context.rules.declare([rule("Up")])
        await settle()
        assert bench.phase == "Progressing"
        home.context.rules.declare([])
        await bench.ready()
        assert home.cluster.of("apply").count(widget) == written


async def test_a_layers_own_rule_wins_over_the_stacks_and_that_over_the_clusters(home: Home) -> None:
    published(home, "Half")
    await home.book.start()
    rules = home.context.rules
    assert state(rules.now()) is State.CURRENT
    rules.declare([rule("Up")])
    assert state(rules.now()) is State.IN_PROGRESS
    own = rules.over([rule("Half")], source="layer base")
    assert state(own()) is State.CURRENT
    release = rules.over([rule("Up")], [rule("Half")], source="layer base")
    assert state(release()) is State.IN_PROGRESS, "a release's own rules come before those of its layer"
    assert own() is own(), "rules are compiled when they change, not each time"
    wide = rules.over([{**rule("Half"), "kind": "Other"}], source="layer wide")
    assert state(wide()) is State.IN_PROGRESS
    rules.declare([])
    assert state(wide()) is State.CURRENT, "what is below has changed"


async def test_wrong_rules_of_a_stack_leave_its_last_good_ones(home: Home) -> None:
    rules = home.context.rules
    rules.declare([rule("Up")])
    wrong: Sequence[Manifest] = [{**rule("Half"), "failed": "a ="}]
    with pytest.raises(SpecError, match=r"spec.defaults.health.expressions\[0\].failed: line 1, column 3"):
        rules.declare(wrong)
    assert state(rules.now()) is State.IN_PROGRESS


async def test_stacks_do_not_share_their_own_rules(home: Home) -> None:
    other = StackRules(home.book, home.cluster.facts, "other")
    home.context.rules.declare([rule("Up")])
    assert state(other.now()) is State.CURRENT
    assert state(home.context.rules.now()) is State.IN_PROGRESS


async def test_an_object_that_a_layer_requires_is_judged_by_the_rules_of_the_moment(home: Home) -> None:
    home.cluster.serve("example.com/v1", "Widget", status=True)
    home.cluster.put({**custom("Widget", "w"), "status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    needs = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "namespace": "apps"}
    async with running(home.book.run()), layering(home) as bench:
        await bench.put(home.content(config_map("a"), requires=[needs]))
        assert bench.phase == "Waiting"
        home.context.rules.declare([{**rule("Up"), "current": "true"}])
        await bench.ready()
