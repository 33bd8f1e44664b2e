"""Request slots: fair over lanes, urgent first, fewer when the server asks for it."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterstack.kube.slots import Slots
from tests.virtual_time import run


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def use(slots: Slots, lane: str, order: list[str], *, urgent: bool = False) -> None:
    async with slots.hold(lane, urgent=urgent):
        order.append(lane)


async def blocked_slots() -> tuple[Slots, asyncio.Event, asyncio.Task[None]]:
    """One slot, taken until the event is set."""
    slots, gate = Slots(1), asyncio.Event()

    async def block() -> None:
        async with slots.hold("first"):
            await gate.wait()

    task = asyncio.create_task(block())
    await settle()
    return slots, gate, task


async def test_lanes_take_turns_however_long_one_of_them_is() -> None:
    slots, gate, _task = await blocked_slots()
    order: list[str] = []
    async with asyncio.TaskGroup() as group:
        for lane in ["long"] * 100 + ["short"] * 2:
            group.create_task(use(slots, lane, order))
        await settle()
        gate.set()
    assert order[:4] == ["long", "short", "long", "short"]
    assert len(order) == 102


async def test_urgent_requests_overtake() -> None:
    slots, gate, _task = await blocked_slots()
    order: list[str] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(use(slots, "objects", order))
        group.create_task(use(slots, "namespaces", order, urgent=True))
        await settle()
        gate.set()
    assert order[0] == "namespaces"


async def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    slots, gate, _task = await blocked_slots()
    order: list[str] = []
    waiting = asyncio.create_task(use(slots, "early", order))
    await settle()
    gate.set()
    late = asyncio.create_task(use(slots, "late", order))
    await asyncio.gather(waiting, late)
    assert order == ["early", "late"]


async def test_a_failed_request_gives_its_slot_back() -> None:
    slots = Slots(1)
    for _ in range(3):
        try:
            async with slots.hold():
                raise ValueError
        except ValueError:
            pass
    assert slots.in_use == 0


def test_a_429_halves_the_slots_at_most_once_a_second_and_successes_give_them_back() -> None:
    async def scenario() -> None:
        slots = Slots(32)
        for _ in range(10):
            slots.throttled()
        assert slots.limit == 16
        await asyncio.sleep(1)
        slots.throttled()
        assert slots.limit == 8
        for _ in range(8):
            slots.succeeded()
        assert slots.limit == 9
        for _ in range(32 * 32):
            slots.succeeded()
        assert slots.limit == 32

    run(scenario())


async def test_slots_never_shrink_to_nothing() -> None:
    slots = Slots(1)
    slots.throttled()
    assert slots.limit == 1


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 4))),
        max_size=25,
    ),
    st.integers(1, 4),
)
def test_no_slot_is_lost_or_doubled_whoever_is_cancelled_and_when(
    users: list[tuple[str, bool, int, int | None]], limit: int
) -> None:
    async def scenario() -> None:
        slots = Slots(limit)
        most = 0

        async def work(lane: str, urgent: bool, seconds: int) -> None:
            nonlocal most
            async with slots.hold(lane, urgent=urgent):
                most = max(most, slots.in_use)
                await asyncio.sleep(seconds)

        loop = asyncio.get_running_loop()
        tasks = []
        for lane, urgent, seconds, cancel_after in users:
            task = asyncio.create_task(work(lane, urgent, seconds))
            tasks.append(task)
            if cancel_after is not None:
                loop.call_later(cancel_after, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= limit
        assert (slots.in_use, slots.waiting) == (0, 0)

    run(scenario())
