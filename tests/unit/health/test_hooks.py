"""Webhook configurations: Current once their servers can be asked, and never waited for without hope."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.health import GRACE, Context, RuleSet, Server, State, Verdict, judge, servers_of
from clusterstack.core.objects import Manifest, ObjectRef

RULES = RuleSet.bundled()
BORN = 1_800_000_000.0
SERVICE = ObjectRef("", "Service", "tools", "checker")
SELECTING: Manifest = {"spec": {"selector": {"app": "checker"}}}


def configuration(*hooks: dict[str, Any], kind: str = "ValidatingWebhookConfiguration", **annotations: str) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "checker", "creationTimestamp": "2027-01-15T08:00:00Z", "annotations": annotations},
        "webhooks": list(hooks),
    }


def hook(**fields: Any) -> dict[str, Any]:
    service = {"namespace": "tools", "name": "checker"}
    return {"name": "check.example.org", "failurePolicy": "Fail", "clientConfig": {"service": service}, **fields}


def slices(*ready: bool) -> tuple[Manifest, ...]:
    return ({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": one}} for one in ready]},)


def verdict(obj: Manifest, server: Server | None, *, now: float = BORN + 1) -> Verdict:
    servers = {SERVICE: server} if server is not None else {}
    return judge(obj, Context(rules=RULES, now=now, servers=servers))


@pytest.mark.parametrize("kind", ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"])
def test_a_configuration_is_current_once_its_service_has_a_ready_endpoint(kind: str) -> None:
    obj = configuration(hook(), kind=kind)
    assert servers_of(obj) == (SERVICE,)
    found = verdict(obj, Server(SELECTING, slices(False)))
    assert (found.state, found.reason) == (State.IN_PROGRESS, "WebhookNotReady")
    assert found.message == "webhook check.example.org waits for ready endpoints of service tools/checker"
    assert verdict(obj, Server(SELECTING, slices(False, True))).state is State.CURRENT


def test_a_server_that_is_starting_is_waited_for_however_long_that_takes() -> None:
    found = verdict(configuration(hook()), Server(SELECTING, slices(False)), now=BORN + 3600)
    assert found.state is State.IN_PROGRESS


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Server(None), "waits for service tools/checker, which does not exist"),
        (Server(SELECTING, ()), "waits for ready endpoints of service tools/checker"),
    ],
)
def test_a_server_that_nobody_starts_is_given_up_after_a_while_and_named(server: Server, said: str) -> None:
    obj = configuration(hook())
    early, late = (verdict(obj, server, now=BORN + seconds) for seconds in (GRACE - 1, GRACE + 1))
    assert (early.state, early.recheck_at) == (State.IN_PROGRESS, BORN + GRACE)
    assert late.state is State.CURRENT
    assert early.message == late.message == f"webhook check.example.org {said}"


def test_a_ca_bundle_that_cert_manager_is_to_inject_is_waited_for_and_no_other() -> None:
    up = Server(SELECTING, slices(True))
    announced = {"cert-manager.io/inject-ca-from": "tools/checker"}
    found = verdict(configuration(hook(), **announced), up, now=BORN + 3600)
    assert found.state is State.IN_PROGRESS
    assert "caBundle" in found.message
    trusted = {"service": {"namespace": "tools", "name": "checker"}, "caBundle": "LS0t"}
    assert verdict(configuration(hook(clientConfig=trusted), **announced), up).state is State.CURRENT
    assert verdict(configuration(hook()), up).state is State.CURRENT


@pytest.mark.parametrize(
    "harmless",
    [
        hook(failurePolicy="Ignore"),
        hook(clientConfig={"url": "https://hooks.example.org"}),
    ],
)
def test_webhooks_that_stop_nothing_or_lie_outside_of_the_cluster_are_not_waited_for(harmless: dict[str, Any]) -> None:
    assert servers_of(configuration(harmless)) == ()
    assert verdict(configuration(harmless), None).state is State.CURRENT


def test_a_policy_that_is_not_said_fails() -> None:
    unsaid = {key: value for key, value in hook().items() if key != "failurePolicy"}
    assert servers_of(configuration(unsaid)) == (SERVICE,)


def test_what_has_not_been_read_is_waited_for_and_what_nobody_looks_at_is_not() -> None:
    assert verdict(configuration(hook()), None).state is State.IN_PROGRESS
    assert judge(configuration(hook()), Context(rules=RULES, now=BORN)).state is State.CURRENT
    assert verdict(configuration(hook()), Server(trusted=True)).state is State.CURRENT


def test_endpoints_that_somebody_looks_after_by_hand_are_not_judged() -> None:
    assert verdict(configuration(hook()), Server({"spec": {}}, ())).state is State.CURRENT


def test_a_configuration_without_webhooks_is_current() -> None:
    assert verdict(configuration(), None).state is State.CURRENT
