"""Verdicts that rest on another object: that one is watched, whoever made it, and the moment it changes they do too."""

from __future__ import annotations

from clusterstack.core.objects import Manifest, ObjectRef
from tests.engine.clock import settle
from tests.engine.home import Home, config_map, custom, keeping, layering

OLM = "operators.coreos.com"
GROUP_VERSION = f"{OLM}/v1alpha1"
SUBSCRIPTION = ObjectRef(OLM, "Subscription", "apps", "it")


def subscription() -> Manifest:
    return {**custom("Subscription", "it", group=OLM), "apiVersion": GROUP_VERSION}


def installed(csv: str) -> Manifest:
    return {"state": "AtLatestKnown", "currentCSV": csv, "installedCSV": csv}


def csv(name: str, phase: str) -> Manifest:
    made = custom("ClusterServiceVersion", name, group=OLM)
    return {**made, "apiVersion": GROUP_VERSION, "status": {"phase": phase}}


async def test_an_object_follows_another_whose_kind_comes_later(home: Home) -> None:
    home.cluster.serve(GROUP_VERSION, "Subscription", status=True)
    async with keeping(home, home.desire(subscription())) as bench:
        home.cluster.status(SUBSCRIPTION, installed("it.v1"))
        await settle()
        missing = "waiting for ClusterServiceVersion apps/it.v1: does not exist yet"
        assert bench.message(SUBSCRIPTION) == f"ClusterServiceVersionMissing: {missing}"
        home.cluster.serve(GROUP_VERSION, "ClusterServiceVersion", status=True)
        await settle()
        home.cluster.put(csv("it.v1", "Installing"))
        await settle()
        assert bench.message(SUBSCRIPTION).startswith("Installing: ")
        home.cluster.put(csv("it.v1", "Succeeded"))
        await settle()
        assert bench.healthy
    assert home.clock.elapsed == 0.0
    assert home.cluster.held == 0


async def test_a_required_object_follows_another_too(home: Home) -> None:
    for kind in ("Subscription", "ClusterServiceVersion"):
        home.cluster.serve(GROUP_VERSION, kind, status=True)
    home.cluster.put({**subscription(), "status": installed("it.v1")})
    requires = [{"apiVersion": GROUP_VERSION, "kind": "Subscription", "name": "it", "namespace": "apps"}]
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), requires=requires))
        assert base.message.endswith("waiting for ClusterServiceVersion apps/it.v1: does not exist yet")
        home.cluster.put(csv("it.v1", "Installing"))
        await settle()
        assert base.message.endswith("ClusterServiceVersion apps/it.v1: phase is Installing")
        home.cluster.put(csv("it.v1", "Succeeded"))
        await settle()
        assert base.layer.facts.done
    assert home.clock.elapsed == 0.0
    assert home.cluster.held == 0


async def test_a_checked_object_that_another_one_lets_down_takes_the_layer_with_it(home: Home) -> None:
    for kind in ("Subscription", "ClusterServiceVersion"):
        home.cluster.serve(GROUP_VERSION, kind, status=True)
    home.cluster.put({**subscription(), "status": installed("it.v1")})
    home.cluster.put(csv("it.v1", "Succeeded"))
    checks = [{"apiVersion": GROUP_VERSION, "kind": "Subscription", "name": "it", "namespace": "apps"}]
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), health={"checks": checks}))
        assert base.layer.facts.done
        home.cluster.put(csv("it.v1", "Failed"))
        await settle()
        assert base.phase == "Progressing"
        assert "it.v1" in base.message
