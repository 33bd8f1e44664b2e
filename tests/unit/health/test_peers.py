"""Every kind that another tool has a health rule for has one here too, or a reason for having none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from clusterstack.core.health import RuleSet, builtin, kstatus
from clusterstack.core.health.samples import instance

PEERS = Path(__file__).with_name("peers.txt")

WITHOUT: Mapping[str, str] = MappingProxyType(
    {
        "spot.io/SpotDeployment": "closed source: neither types nor a definition are public; kstatus with patience",
        "grafana-org-operator.kubitus-project.gitlab.io/*": "its types could not be read; kstatus with patience",
    }
)


def peers() -> list[str]:
    return [line for line in PEERS.read_text().splitlines() if line and not line.startswith("#")]


def judged(kind: str, rules: RuleSet) -> bool:
    """Whether a bundled rule or one of the built-in checks decides; a wildcard stands for any word."""
    obj = instance(kind.replace("*", "Any") if kind.endswith("/*") else kind, {})
    group, _, name = kind.rpartition("/")
    return rules.find(obj) is not None or (group, name) in builtin.CHECKS or (group, name) in kstatus.CHECKS


@pytest.mark.parametrize("kind", peers())
def test_a_kind_that_a_peer_judges_is_judged_here(kind: str, rules: RuleSet) -> None:
    assert judged(kind, rules) or kind in WITHOUT


@pytest.mark.parametrize("kind", WITHOUT)
def test_an_exception_is_still_needed(kind: str, rules: RuleSet) -> None:
    assert kind in set(peers())
    assert not judged(kind, rules)
    assert WITHOUT[kind]


def test_the_list_of_peers_is_whole_and_sorted() -> None:
    listed = peers()
    assert len(listed) >= 240
    assert listed == sorted(set(listed))
