"""The Lease: one writer at a time, whatever clocks, connections and processes do."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable

import pytest

from clusterstack.core.objects import Manifest
from clusterstack.errors import ApiError, TransportError
from clusterstack.kube.lease import Lease, LeaseLost
from clusterstack.kube.resource import Resource
from tests.virtual_time import run, stop_the_world


class Server:
    """A Lease under optimistic concurrency. `fault`, if set, is asked before each call and may raise or wait."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.version = 0
        self.writes = 0

    def client(self) -> Client:
        return Client(self)

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])

    def store(self, manifest: Manifest) -> Manifest:
        self.version += 1
        self.writes += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)


class Client:
    """One process's path to the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cut = False
        self.hang = False
        self.after_commit: Callable[[], None] | None = None

    async def _pass(self) -> None:
        await asyncio.sleep(0.01)
        if self.hang:
            await asyncio.sleep(3600)
        if self.cut:
            raise TransportError("no connection", reason="Disconnected")

    async def find(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        await self._pass()
        return copy.deepcopy(self.server.lease)

    async def create(self, resource: Resource, manifest: Manifest, *, manager: str) -> Manifest:
        await self._pass()
        if self.server.lease is not None:
            raise ApiError("exists", status=409, reason="AlreadyExists")
        return self._answer(self.server.store(manifest))

    async def replace(self, resource: Resource, manifest: Manifest, *, manager: str) -> Manifest:
        await self._pass()
        if self.server.lease is None:
            raise ApiError("gone", status=404, reason="NotFound")
        if manifest["metadata"].get("resourceVersion") != self.server.lease["metadata"]["resourceVersion"]:
            raise ApiError("conflict", status=409, reason="Conflict")
        return self._answer(self.server.store(manifest))

    def _answer(self, lease: Manifest) -> Manifest:
        if self.after_commit is not None:
            self.after_commit()
        return lease


def lease(client: Client, identity: str) -> Lease:
    return Lease(client, namespace="clusterstack", name="operator", identity=identity)


def test_the_first_takes_it_and_a_second_waits_until_it_is_released() -> None:
    async def scenario() -> None:
        server = Server()
        clock = asyncio.get_running_loop().time
        entered: list[float] = []

        async def second() -> None:
            async with lease(server.client(), "b"):
                entered.append(clock())

        async with lease(server.client(), "a") as held:
            held.check()
            task = asyncio.create_task(second())
            await asyncio.sleep(60)
            held.check()
            assert (server.holder, entered) == ("a", [])
            left = clock()
        await task
        assert entered[0] - left < 3  # released, so the other need not wait for its end
        assert server.lease is not None
        assert server.lease["spec"]["leaseTransitions"] == 1

    run(scenario())


def test_a_dead_holder_is_replaced_after_its_duration_and_not_before() -> None:
    async def scenario() -> None:
        server = Server()
        first = lease(server.client(), "a")
        await first.acquire()  # and never renews
        began = asyncio.get_running_loop().time()
        second = lease(server.client(), "b")
        await second.acquire()
        assert 15 <= asyncio.get_running_loop().time() - began < 19
        with pytest.raises(LeaseLost):
            first.check()
        second.check()

    run(scenario())


def test_a_holder_cut_off_stops_before_anyone_else_may_start() -> None:
    async def scenario() -> None:
        server, clock = Server(), asyncio.get_running_loop().time
        client = server.client()
        ended: list[float] = []
        began: list[float] = []

        async def follow() -> None:
            other = lease(server.client(), "b")
            await other.acquire()
            began.append(clock())

        async with lease(client, "a") as held:
            task = asyncio.create_task(follow())
            await asyncio.sleep(5)
            client.cut = True
            with pytest.raises(LeaseLost, match="not held by a"):
                await held.lost()
            ended.append(clock())
            await task
        assert ended[0] < began[0]

    run(scenario())


def test_a_renewal_that_hangs_does_not_outlast_the_deadline() -> None:
    async def scenario() -> None:
        server = Server()
        client = server.client()
        async with lease(client, "a") as held:
            await asyncio.sleep(1)
            client.hang = True
            began = asyncio.get_running_loop().time()
            with pytest.raises(LeaseLost):
                await held.lost()
            assert asyncio.get_running_loop().time() - began <= 10.01

    run(scenario())


def test_a_process_that_was_stopped_may_not_write_when_it_wakes() -> None:
    async def scenario() -> None:
        held = lease(Server().client(), "a")
        async with held:
            held.check()
            stop_the_world(60)
            with pytest.raises(LeaseLost):  # before any timer of its own had a chance to run
                held.check()

    run(scenario())


def test_short_troubles_do_not_lose_it() -> None:
    async def scenario() -> None:
        server = Server()
        client = server.client()
        async with lease(client, "a") as held:
            for _ in range(5):
                client.cut = True
                await asyncio.sleep(5)
                client.cut = False
                await asyncio.sleep(5)
                held.check()

    run(scenario())


def test_a_renewal_whose_answer_was_lost_is_still_ours() -> None:
    async def scenario() -> None:
        server = Server()
        client = server.client()

        def lose() -> None:
            client.after_commit = None
            raise TransportError("cut", reason="Disconnected")

        async with lease(client, "a") as held:
            await asyncio.sleep(1)
            client.after_commit = lose
            await asyncio.sleep(30)
            held.check()
            assert server.lease is not None
            assert server.lease["spec"]["leaseTransitions"] == 0

    run(scenario())


def test_someone_touching_the_lease_does_not_lose_it_but_taking_it_does() -> None:
    async def scenario() -> None:
        server = Server()
        async with lease(server.client(), "a") as held:
            assert server.lease is not None
            server.store({**server.lease, "metadata": {**server.lease["metadata"], "labels": {"seen": "yes"}}})
            await asyncio.sleep(10)
            held.check()
            server.store({**server.lease, "spec": {**server.lease["spec"], "holderIdentity": "b"}})
            with pytest.raises(LeaseLost):
                await held.lost()
            with pytest.raises(LeaseLost):
                held.check()
        assert server.holder == "b"  # leaving does not take it back

    run(scenario())


def test_a_lease_deleted_by_hand_is_made_again() -> None:
    async def scenario() -> None:
        server = Server()
        async with lease(server.client(), "a") as held:
            server.lease = None
            await asyncio.sleep(10)
            held.check()
            assert server.holder == "a"

    run(scenario())


def test_the_holder_is_patient_while_the_server_is_away_at_the_start() -> None:
    async def scenario() -> None:
        server = Server()
        client = server.client()
        client.cut = True
        held = lease(client, "a")
        waiting = asyncio.create_task(held.acquire())
        await asyncio.sleep(120)
        assert not waiting.done()
        client.cut = False
        await waiting
        held.check()

    run(scenario())


@pytest.mark.parametrize("offset", [0.0, 1.7, 5.1, 8.5, 11.9])
def test_two_processes_never_both_pass_the_check(offset: float) -> None:
    """Cuts and pauses at many offsets: at no moment do both hold it."""

    async def scenario() -> None:
        server = Server()
        clients = [server.client(), server.client()]
        holders = [lease(client, name) for client, name in zip(clients, "ab", strict=True)]

        async def live(held: Lease) -> None:
            while True:
                try:
                    async with held:
                        await held.lost()
                except LeaseLost:
                    await asyncio.sleep(1)

        def passes(held: Lease) -> bool:
            try:
                held.check()
            except LeaseLost:
                return False
            return True

        tasks = [asyncio.create_task(live(held)) for held in holders]
        seen: set[str] = set()
        for step in range(3000):
            await asyncio.sleep(0.1)
            clients[0].cut = offset <= step / 10 % 30 < offset + 17
            clients[1].hang = offset <= (step / 10 + 13) % 40 < offset + 9
            passing = [held.identity for held in holders if passes(held)]
            assert len(passing) <= 1
            seen.update(passing)
        assert seen == {"a", "b"}  # it did change hands
        for task in tasks:
            task.cancel()

    run(scenario())
