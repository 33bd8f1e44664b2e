"""The simulator's decisions that need no cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from testbed.simulator import builtin, certs, templates
from testbed.simulator.broken import BrokenRules
from testbed.simulator.conditions import condition, timed
from testbed.simulator.dice import Dice
from testbed.simulator.operators import Operator, is_ready
from testbed.simulator.plays.network import addresses
from testbed.simulator.store import Store
from testbed.simulator.webhooks.references import references


def deployment(name: str, *, ready: int = 1, wanted: int = 1, observed: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "a", "name": name, "uid": name, "generation": 1, "resourceVersion": str(ready + 1)},
        "spec": {"replicas": wanted},
        "status": {
            "observedGeneration": observed,
            "updatedReplicas": ready,
            "availableReplicas": ready,
            "conditions": [{"type": "Available", "status": "True" if ready >= wanted else "False"}],
        },
    }


def test_a_delay_depends_on_seed_and_identity_alone() -> None:
    one, other = Dice(1, 1.0, 20.0, 1.0), Dice(2, 1.0, 20.0, 1.0)
    assert one.seconds("Kafka", "a", "b") == Dice(1, 1.0, 20.0, 1.0).seconds("Kafka", "a", "b")
    assert one.seconds("Kafka", "a", "b") != other.seconds("Kafka", "a", "b")
    assert one.seconds("Kafka", "a", "b") != one.seconds("Kafka", "a", "c")


def test_delays_stay_in_their_range_after_scaling() -> None:
    dice = Dice(0, 1.0, 20.0, 0.5)
    assert all(0.5 <= dice.seconds("K", "n", str(number)) <= 10.0 for number in range(200))


@pytest.mark.parametrize(
    ("rules", "mode"),
    [
        ("kafka=stuck", "stuck"),
        ("kafka/main=failed", "failed"),
        ("kafka/queues/m*=flap", "flap"),
        ("kafka/other=failed", ""),
        ("kafka/elsewhere/main=failed", ""),
        ("kafka/main=slow, kafka=never", "slow"),
    ],
)
def test_the_first_rule_that_covers_an_object_decides(rules: str, mode: str) -> None:
    assert BrokenRules.parse(rules).mode("Kafka", "queues", "main") == mode


@pytest.mark.parametrize("text", ["kafka", "kafka=sideways", "a/b/c/d=never", "kafka="])
def test_a_rule_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected kind"):
        BrokenRules.parse(text)


def test_an_external_secrets_template_renders_fields_printf_and_pipes() -> None:
    text = '{"password":"{{ .token }}","auth":"{{ printf "me:%s" .token | b64enc }}"}'
    assert templates.render(text, {"token": "t"}) == '{"password":"t","auth":"bWU6dA=="}'


def test_an_operator_is_up_once_its_deployment_is_available_under_any_release_name() -> None:
    store, operator = Store(), Operator("x", ("the-operator",))
    assert not operator.is_up(store)
    store.put(builtin.DEPLOYMENTS, deployment("release-the-operator", ready=0))
    assert not operator.is_up(store)
    store.put(builtin.DEPLOYMENTS, deployment("release-the-operator"))
    assert operator.is_up(store)


def test_a_deployment_whose_status_is_of_an_older_generation_is_not_ready() -> None:
    assert is_ready(deployment("a"))
    assert not is_ready(deployment("a", observed=0))


def test_a_daemon_set_without_matching_nodes_is_ready() -> None:
    status = {"observedGeneration": 1, "desiredNumberScheduled": 0, "numberAvailable": 0}
    assert is_ready({"kind": "DaemonSet", "metadata": {"generation": 1}, "spec": {}, "status": status})


def test_a_condition_keeps_its_transition_time_while_its_status_stays() -> None:
    old = [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]
    assert timed([condition("Ready", True, "Other")], old)[0]["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert timed([condition("Ready", False)], old)[0]["lastTransitionTime"] != "2020-01-01T00:00:00Z"


def test_pools_are_ranges_or_networks() -> None:
    assert list(addresses("10.0.0.8-10.0.0.10")) == ["10.0.0.8", "10.0.0.9", "10.0.0.10"]
    assert list(addresses("10.0.0.4/31")) == ["10.0.0.4", "10.0.0.5"]


async def test_until_is_woken_by_a_change_that_makes_its_answer_true() -> None:
    store = Store()
    waiting = asyncio.create_task(
        store.until((builtin.DEPLOYMENTS.name,), lambda: store.get(builtin.DEPLOYMENTS.name, "a", "b"))
    )
    await asyncio.sleep(0)
    store.put(builtin.DEPLOYMENTS, deployment("other"))
    store.put(builtin.DEPLOYMENTS, deployment("b"))
    assert (await asyncio.wait_for(waiting, 1))["metadata"]["name"] == "b"


def test_a_fresh_list_drops_what_is_not_in_it_and_tells_nothing_twice() -> None:
    store, heard = Store(), list[tuple[str, str]]()
    store.put(builtin.DEPLOYMENTS, deployment("a"))
    store.put(builtin.DEPLOYMENTS, deployment("b"))
    store.listen(lambda change, _, obj: heard.append((change, obj["metadata"]["name"])))
    store.replace(builtin.DEPLOYMENTS, [deployment("b")])
    assert heard == [("DELETED", "a")]


def test_every_place_that_names_a_service_is_a_reference() -> None:
    store = Store()
    service = {"namespace": "n", "name": "s"}
    configuration = {
        "metadata": {"name": "c", "uid": "1", "annotations": {"cert-manager.io/inject-ca-from": "n/cert"}},
        "webhooks": [{"name": "w", "clientConfig": {"service": {**service, "port": 9443}}}],
    }
    api = {"metadata": {"name": "v1.g", "uid": "2"}, "spec": {"group": "g", "version": "v1", "service": service}}
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": {"service": service}}}
    store.put(builtin.VALIDATING, configuration)
    store.put(builtin.API_SERVICES, api)
    found = list(references(store, {"x.g": {"metadata": {"name": "x.g"}, "spec": {"conversion": conversion}}}))
    assert [(one.resource.kind, one.port, one.pointer) for one in found] == [
        ("ValidatingWebhookConfiguration", 9443, "/webhooks/0/clientConfig/caBundle"),
        ("CustomResourceDefinition", 443, "/spec/conversion/webhook/clientConfig/caBundle"),
        ("APIService", 443, "/spec/caBundle"),
    ]
    assert found[0].certificate == "n/cert"


def test_a_made_certificate_names_its_service_as_the_api_server_calls_it() -> None:
    assert "s.n.svc" in certs.service_hosts("n", "s")
    pair = certs.make("s", certs.service_hosts("n", "s"))
    assert pair.certificate.startswith(b"-----BEGIN CERTIFICATE")
    assert pair.ca != pair.certificate
