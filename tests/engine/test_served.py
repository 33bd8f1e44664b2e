"""Why a kind is not served: what is said of it, and that its coming is noticed at once."""

from __future__ import annotations

from typing import Any

from clusterstack.core.health import Policy
from clusterstack.core.objects import Manifest
from clusterstack.errors import ApiError
from tests.engine.clock import settle
from tests.engine.cluster import Call
from tests.engine.home import Home, crd, custom, keeping

MISSING = "kind Widget.example.com is not served yet"


def crd_with(*conditions: dict[str, Any]) -> Manifest:
    return {**crd("Widget"), "status": {"conditions": list(conditions)}}


def api_service(status: str, reason: str, message: str) -> Manifest:
    condition = {"type": "Available", "status": status, "reason": reason, "message": message}
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1.example.com"},
        "status": {"conditions": [condition]},
    }


async def test_objects_of_an_aggregated_api_wait_with_the_words_of_its_api_service(home: Home) -> None:
    widget = home.desire(custom("Widget", "w"))
    home.cluster.silent = frozenset({"example.com/v1"})
    async with keeping(home, widget, policy=Policy.EXISTS) as bench:
        assert bench.message(widget.ref) == (
            "APIServiceUnavailable: the server behind APIService v1.example.com does not answer"
        )
        home.cluster.put(api_service("False", "FailedDiscoveryCheck", "no response from https://10.0.0.1:443"))
        await settle()
        assert bench.message(widget.ref) == (
            "APIServiceUnavailable: APIService v1.example.com is not Available: "
            "FailedDiscoveryCheck: no response from https://10.0.0.1:443"
        )
        home.cluster.silent = frozenset()
        home.cluster.serve("example.com/v1", "Widget")
        await settle()
        assert bench.healthy
    assert home.clock.elapsed == 0


async def test_a_write_that_fails_for_an_api_that_has_gone_down_says_so(home: Home) -> None:
    home.cluster.serve("example.com/v1", "Widget")
    widget = home.desire(custom("Widget", "w"))

    def unable(call: Call) -> None:
        if home.cluster.silent:
            raise ApiError("the server is currently unable to handle the request", status=503)

    home.cluster.before("apply", unable, widget.ref)
    home.cluster.silent = frozenset({"example.com/v1"})
    home.cluster.put(api_service("False", "MissingEndpoints", 'endpoints for service/a in "b" have no addresses'))
    async with keeping(home, widget, policy=Policy.EXISTS) as bench:
        await home.clock.advance(1)
        assert "v1.example.com is not Available: MissingEndpoints" in bench.message(widget.ref)
        home.cluster.silent = frozenset()
        home.cluster.put(api_service("True", "Passed", ""))
        await settle()
        assert bench.healthy


async def test_a_crd_whose_names_are_taken_is_the_reason_for_its_objects(home: Home) -> None:
    taken = {"type": "NamesAccepted", "status": "False", "reason": "ListKindConflict", "message": '"Widget" is taken'}
    made, widget = home.desire(crd("Widget")), home.desire(custom("Widget", "w"))
    async with keeping(home, made, widget, policy=Policy.EXISTS) as bench:
        assert bench.message(widget.ref) == f"KindNotServed: {MISSING}"
        home.cluster.status(made.ref, crd_with(taken)["status"])
        await home.clock.advance(1)
        assert bench.message(widget.ref) == (
            f"CRDNotEstablished: {MISSING}: its CRD is not established, NamesAccepted=False: "
            'ListKindConflict: "Widget" is taken'
        )
        home.cluster.serve("example.com/v1", "Widget")
        await settle()
        assert bench.healthy


async def test_a_crd_that_is_just_being_installed_is_no_reason_to_worry(home: Home) -> None:
    installing = {"type": "Established", "status": "False", "reason": "Installing", "message": "the initial names ..."}
    made, widget = home.desire(crd("Widget")), home.desire(custom("Widget", "w"))
    async with keeping(home, made, widget, policy=Policy.EXISTS) as bench:
        home.cluster.status(made.ref, crd_with(installing)["status"])
        await home.clock.advance(1)
        assert bench.message(widget.ref) == f"KindNotServed: {MISSING}"


async def test_a_version_that_is_not_served_is_told_from_a_kind_that_is_not(home: Home) -> None:
    home.cluster.serve("example.com/v2", "Widget")
    widget = home.desire(custom("Widget", "w"))
    async with keeping(home, widget, policy=Policy.EXISTS) as bench:
        assert bench.message(widget.ref) == (
            "VersionNotServed: version v1 of kind Widget.example.com is not served (served: v2)"
        )
        home.cluster.serve("example.com/v1", "Widget")
        await settle()
        assert bench.healthy
    assert home.clock.elapsed == 0
