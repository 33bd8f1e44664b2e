"""The numbered bus loses no wake-up."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterstack.kube.facts import Bus
from tests.virtual_time import run

KEYS = ("a", "b", "c")
STEPS = st.lists(st.tuples(st.sampled_from(["publish", "look", "yield"]), st.sampled_from(KEYS)), max_size=40)


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_change_before_the_wait_but_after_the_look_wakes_at_once() -> None:
    bus = Bus()
    seen = bus.now
    bus.publish("a")
    async with asyncio.timeout(1):
        assert await bus.wait(("a", "b"), seen) == {"a"}


async def test_a_change_before_the_look_does_not_wake() -> None:
    bus = Bus()
    bus.publish("a")
    waiting = asyncio.create_task(bus.wait(("a",), bus.now))
    await settle()
    assert not waiting.done()
    bus.publish("a")
    assert await waiting == {"a"}


async def test_changes_that_come_together_are_told_together() -> None:
    bus = Bus()
    with bus.subscribe(KEYS) as subscription:
        waiting = asyncio.create_task(subscription.changed())
        await settle()
        bus.publish("a")
        bus.publish("b")
        assert await waiting == {"a", "b"}
        assert subscription.take() == frozenset()


async def test_discarded_keys_are_told_no_more() -> None:
    bus = Bus()
    with bus.subscribe(KEYS) as subscription:
        bus.publish("a")
        subscription.discard(("a", "b"))
        bus.publish("b")
        bus.publish("c")
        assert subscription.take() == {"c"}


async def test_keys_added_later_count_from_their_own_number() -> None:
    bus = Bus()
    with bus.subscribe() as subscription:
        seen = bus.now
        bus.publish("a")
        subscription.add(("a",), seen)
        subscription.add(("b",), bus.now)
        assert await subscription.changed() == {"a"}


async def test_nothing_is_kept_of_readers_that_left() -> None:
    bus = Bus()
    for _ in range(3):
        with bus.subscribe(KEYS):
            pass
    assert bus._readers == {}


async def test_a_forgotten_number_wakes_rather_than_sleeps() -> None:
    bus = Bus(capacity=2)
    seen = bus.now
    for key in ("a", "b", "c", "d"):
        bus.publish(key)
    assert len(bus._numbers) == 2
    async with asyncio.timeout(1):
        assert await bus.wait(("a",), seen) == {"a"}
    assert not bus.changed_since("a", bus.now)


@settings(deadline=None)
@given(STEPS, st.integers(1, 4))
def test_a_reader_that_looks_then_waits_sees_every_last_change(steps: list[tuple[str, str]], capacity: int) -> None:
    """Whatever the order of looks, waits and changes, the reader ends up knowing the newest value of every key."""

    async def scenario() -> None:
        bus = Bus(capacity=capacity)
        facts = dict.fromkeys(KEYS, 0)
        known = dict.fromkeys(KEYS, -1)

        async def read() -> None:
            while True:
                seen = bus.now
                known.update(facts)
                await bus.wait(KEYS, seen)

        reader = asyncio.create_task(read())
        for step, key in steps:
            if step == "publish":
                facts[key] += 1
                bus.publish(key)
            elif step == "yield":
                await asyncio.sleep(0)
        await settle()
        assert known == facts
        reader.cancel()

    run(scenario())
