"""Webhooks that do not answer: whatever they hold up waits on one gate, and one object at a time asks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from clusterstack.core.content import Desired
from clusterstack.core.objects import GroupKind, Manifest
from clusterstack.errors import ApiError
from tests.engine.clock import settle
from tests.engine.cluster import Call
from tests.engine.home import Home, KeeperBench, config_map, keeping, layer, stacking

ENDPOINT_SLICE = GroupKind("discovery.k8s.io", "EndpointSlice")
NAME = "validate.example.com"
SUBJECT = f"WebhookNotReady: webhook {NAME} of service apps/hook"


def down(
    trouble: str = "dial tcp 10.0.0.1:443: connect: connection refused", *, where: str = "hook.apps.svc:443"
) -> ApiError:
    return ApiError(
        f'Internal error occurred: failed calling webhook "{NAME}": failed to call webhook: '
        f'Post "https://{where}/validate?timeout=10s": {trouble}',
        status=500,
        reason="InternalError",
    )


def service(**spec: object) -> Manifest:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": "apps"}, "spec": spec}


def endpoints(*, ready: bool = True) -> Manifest:
    labels = {"kubernetes.io/service-name": "hook"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "hook-1", "namespace": "apps", "labels": labels},
        "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": ready}}],
    }


class Server:
    """The server behind the webhook, asked about every ConfigMap."""

    def __init__(self, home: Home, error: Callable[[], ApiError] = down) -> None:
        self.home, self.up, self.error = home, False, error
        self.asked: list[tuple[float, str, str]] = []
        home.cluster.before("apply", self._ask, "ConfigMap")

    def _ask(self, call: Call) -> None:
        if call.ref.namespace != "apps":
            return
        self.asked.append((self.home.clock.now(), call.verb, call.ref.name))
        if not self.up:
            raise self.error()

    def count(self, verb: str) -> int:
        return sum(asked == verb for _, asked, _ in self.asked)

    def start(self) -> None:
        self.up = True
        self.home.cluster.put(endpoints())


def many(home: Home, count: int) -> list[Desired]:
    return [home.desire(config_map(f"held-{number}")) for number in range(count)]


def says(bench: KeeperBench, desired: Desired) -> str:
    return bench.message(desired.ref)


async def test_five_hundred_objects_behind_one_webhook_ask_with_one_voice_and_go_together(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    server = Server(home)
    async with keeping(home, *many(home, 500)) as bench:
        assert (server.count("apply"), server.count("rehearse")) == (500, 0)
        await home.clock.advance(600)
        assert server.count("apply") == 500
        assert server.count("rehearse") <= 25  # without endpoints: twice a minute, should the configuration be gone
        server.asked.clear()
        server.start()
        await settle()
        assert bench.healthy
        assert (server.count("rehearse"), server.count("apply")) == (1, 500)
    assert home.context.webhooks.closed == 0


async def test_a_server_with_endpoints_that_does_not_answer_yet_is_asked_by_one_at_least_every_second(
    home: Home,
) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    home.cluster.put(endpoints())
    server = Server(home)
    async with keeping(home, *many(home, 50)) as bench:
        server.asked.clear()
        await home.clock.advance(60)
        times = [at for at, _, _ in server.asked]
        assert server.count("apply") == 0
        assert max(b - a for a, b in itertools.pairwise(times)) <= 1.2
        assert len(times) <= 60 / 0.8 + 3
        server.up = True
        took = await home.clock.until(lambda: bench.healthy)
        assert took <= 1.2


@pytest.mark.parametrize("spec", [{"type": "ExternalName", "externalName": "hook.example.com"}, {"ports": []}])
async def test_a_service_without_a_selector_is_not_judged_by_its_endpoints(home: Home, spec: dict[str, object]) -> None:
    home.cluster.put(service(**spec))
    server = Server(home)
    async with keeping(home, *many(home, 3)) as bench:
        await home.clock.advance(20)
        server.up = True
        assert await home.clock.until(lambda: bench.healthy) <= 1.2


async def test_a_webhook_called_by_its_url_is_asked_now_and_then(home: Home) -> None:
    server = Server(home, lambda: down(where="hooks.example.com"))
    held = many(home, 3)
    async with keeping(home, *held) as bench:
        assert says(bench, held[0]) == f"WebhookNotReady: webhook {NAME} refuses connections"
        await home.clock.advance(20)
        assert server.count("apply") == 3
        server.up = True
        assert await home.clock.until(lambda: bench.healthy) <= 1.2


async def test_what_is_said_follows_what_is_known_of_the_server(home: Home) -> None:
    held = many(home, 2)
    server = Server(home)
    async with keeping(home, *held) as bench:
        assert says(bench, held[1]) == f"{SUBJECT} has no Service yet"
        home.cluster.put(service(selector={"app": "hook"}))
        await settle()
        assert says(bench, held[1]) == f"{SUBJECT} has no ready endpoints"
        home.cluster.put(endpoints(ready=False))
        await settle()
        assert says(bench, held[1]) == f"{SUBJECT} has no ready endpoints"
        server.error = lambda: down("tls: failed to verify certificate: x509: certificate signed by unknown authority")
        home.cluster.put(endpoints())
        await settle()
        trouble = "shows a certificate that is not trusted yet: x509: certificate signed by unknown authority"
        assert says(bench, held[1]) == f"{SUBJECT} {trouble}"
    assert home.clock.elapsed == 0


async def test_a_webhook_whose_configuration_was_taken_away_holds_nothing_up_for_long(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    server = Server(home)
    async with keeping(home, *many(home, 3)) as bench:
        await home.clock.advance(600)
        server.up = True
        assert await home.clock.until(lambda: bench.healthy) <= 36


async def test_an_answer_that_comes_between_the_refusal_and_the_wait_is_not_missed(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    server = Server(home)

    def appear(call: Call) -> None:
        if not server.up and call.ref.namespace == "apps":
            server.start()
            raise down()

    home.cluster.before("apply", appear, "ConfigMap")
    async with keeping(home, *many(home, 40)) as bench:
        await home.clock.until(lambda: bench.healthy, limit=1.2)


async def test_a_server_that_refuses_answers_and_each_object_hears_its_own_refusal(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    server = Server(home)
    held = many(home, 3)
    async with keeping(home, *held) as bench:
        server.error = lambda: ApiError(
            f'admission webhook "{NAME}" denied the request: not on a Sunday', status=403, reason="Forbidden"
        )
        home.cluster.put(endpoints())
        await settle()
        assert all("not on a Sunday" in says(bench, one) for one in held)
        assert server.count("rehearse") == 1


async def test_an_object_that_something_else_stops_lets_the_next_one_ask(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    server = Server(home)
    held = many(home, 3)
    async with keeping(home, *held) as bench:

        def missing(call: Call) -> None:
            raise ApiError('namespaces "apps" not found', status=404, reason="NotFound")

        home.cluster.before("apply", missing, held[0].ref)
        server.start()
        await settle()
        assert [says(bench, one).partition(":")[0] for one in held] == ["NamespaceMissing", "", ""]


def impossible(call: Call) -> None:
    """What the API server answers to a dry run that would call a webhook with side effects."""
    raise ApiError(f'admission webhook "{NAME}" does not support dry run', status=400, reason="BadRequest")


async def test_a_webhook_that_knows_no_dry_run_is_asked_by_one_real_write_at_a_time(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    home.cluster.put(endpoints())
    server = Server(home)
    home.cluster.before("rehearse", impossible)
    async with keeping(home, *many(home, 20)) as bench:
        server.asked.clear()
        await home.clock.advance(30)
        assert 25 <= server.count("apply") <= 45
        server.up = True
        assert await home.clock.until(lambda: bench.healthy) <= 1.2
        assert server.count("apply") <= 45 + 22


async def test_a_lone_object_behind_a_webhook_without_dry_run_does_not_ask_without_pause(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    home.cluster.put(endpoints())
    server = Server(home)
    home.cluster.before("rehearse", impossible)
    async with keeping(home, *many(home, 1)):
        await home.clock.advance(60)
        assert server.count("apply") <= 80


async def test_layers_that_wait_for_the_same_webhook_share_its_gate(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    server = Server(home)
    layers = [layer(name, *(config_map(f"{name}-{number}") for number in range(20))) for name in ("one", "two")]
    async with stacking(home, *layers) as bench:
        await home.clock.advance(60)
        assert home.context.webhooks.closed == 1
        server.asked.clear()
        server.start()
        await bench.ready("one", "two")
        assert server.count("rehearse") == 1


async def test_a_bug_in_asking_leaves_nobody_waiting_for_ever(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    home.cluster.put(endpoints())
    server = Server(home)

    def bug(call: Call) -> None:
        if home.clock.now() < 5:
            raise KeyError("surprise")

    home.cluster.before("rehearse", bug)
    async with keeping(home, *many(home, 3)) as bench:
        server.up = True
        assert await home.clock.until(lambda: bench.healthy) <= 8
    assert "surprise" in caplog.text


async def test_nobody_asks_once_nobody_waits_any_more(home: Home) -> None:
    home.cluster.put(service(selector={"app": "hook"}))
    home.cluster.put(endpoints())
    server = Server(home)
    async with keeping(home, *many(home, 5)) as bench:
        await home.clock.advance(3)
        await bench.want(home.desire(config_map("free", "elsewhere")))
        server.asked.clear()
        await home.clock.advance(60)
        assert server.asked == []
        assert bench.healthy
    assert (home.context.webhooks.closed, home.cluster.held) == (0, 0)


def configuration() -> Manifest:
    reference = {"service": {"namespace": "apps", "name": "hook"}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook"},
        "webhooks": [{"name": NAME, "failurePolicy": "Fail", "clientConfig": reference}],
    }


async def test_a_configuration_is_healthy_the_moment_its_server_can_be_asked(home: Home) -> None:
    made = home.desire(configuration())
    home.cluster.put(service(selector={"app": "hook"}))
    home.cluster.put(endpoints(ready=False))
    async with keeping(home, made) as bench:
        await home.clock.advance(600)
        assert bench.message(made.ref) == (
            f"WebhookNotReady: webhook {NAME} waits for ready endpoints of service apps/hook"
        )
        before = home.clock.elapsed
        home.cluster.put(endpoints())
        await settle()
        assert bench.healthy
        assert home.clock.elapsed == before
        assert [key for key in home.cluster.watched if key.group_kind == ENDPOINT_SLICE] == []


async def test_a_configuration_that_was_healthy_is_not_asked_about_again(home: Home) -> None:
    made = home.desire(configuration())
    home.cluster.put(service(selector={"app": "hook"}))
    home.cluster.put(endpoints())
    async with keeping(home, made) as bench:
        assert bench.healthy
        changes = bench.changes
        home.cluster.put(endpoints(ready=False))
        bench.keeper.mark_all()
        await settle()
        assert bench.healthy
        assert bench.changes == changes


async def test_a_server_that_cannot_be_read_is_left_out_of_account_after_a_while(home: Home) -> None:
    home.cluster.syncing = False
    made = home.desire(configuration())
    async with keeping(home, made) as bench:
        home.cluster.sync(made.ref.group_kind)
        await settle()
        assert bench.message(made.ref).endswith("waits for service apps/hook to be read")
        assert await home.clock.until(lambda: bench.healthy) <= 80
