"""Every sample of the health library whose kind is at hand: stored on a real API server, and judged as read back.

At hand are the kinds of the homelab data set's CRDs and Kubernetes' own. A field that the API server drops was written
from a wrong memory, and so fails as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from clusterstack.core.health import Context, RuleSet, State, judge
from clusterstack.core.health.samples import Sample, judged, samples
from testbed.api import Api
from testbed.controlplane import ControlPlane
from testbed.definitions import definitions
from testbed.homelab import location
from tests.cluster.sample_store import Home, Stored, builtin, install, placed, store
from tests.cluster.sample_texts import APART, FIRST, NEWER, SAID

pytestmark = pytest.mark.cluster

KINDS, SAMPLES, OWN_KINDS = 212, 700, 40
"""At least so many are stored: what is at hand does not quietly become less."""

UNRULED: frozenset[str] = frozenset()
"""Kinds at hand that the library has no rule for, and so no sample of."""

APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
FLOW_SCHEMAS = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
_VERSION = {"version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}
_ABSENT = {"name": "absent", "namespace": "default"}
LATER = 1e6  # seconds: no kind is given time any more


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API server on which nobody but itself writes a status."""
    with ControlPlane() as plane:
        workdir = tmp_path_factory.mktemp("samples")
        plane.start(workdir=workdir, webhooks=False, controllers=False, kwok=False, audit=False)
        yield plane.api


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return RuleSet.bundled()


@pytest.fixture(scope="module")
def known() -> list[Sample]:
    return list(samples())


def check(api: Api, known: Sequence[Sample], homes: Sequence[Home], rules: RuleSet) -> tuple[set[str], list[Stored]]:
    """Stores and judges all samples of the kinds with a home; the kinds that there are samples of."""
    pairs = [pair for pair in placed(known, homes, rules) if not {pair[0].name, pair[1].name} & APART.keys()]
    stored = store(api, pairs, SAID, FIRST)
    wrong = [f"{one.sample.name}: {fault}" for one in stored if (fault := _fault(one, rules))]
    kinds = {home.name for _, home in pairs}
    print(f"{len(stored)} samples of {len(kinds)} kinds")
    assert not wrong, f"{len(wrong)} of {len(stored)} samples:\n" + "\n".join(wrong)
    return kinds, stored


def _fault(one: Stored, rules: RuleSet) -> str:
    """What is wrong with a stored sample; empty where nothing is, or where a newer version's field is dropped."""
    if one.back is None:
        return f"is refused: {one.refusal}"
    newer, _ = NEWER.get(one.home.name, ((), ""))
    if lost := [path for path in one.lost if not path.startswith(newer)]:
        return f"{', '.join(lost)} is not there any more"
    if one.lost:
        return ""
    if one.home.schema and one.back["metadata"]["generation"] != 2:
        return f"has generation {one.back['metadata']['generation']}"
    verdict = judged(replace(one.sample, obj=one.back), rules, now=time.time() + LATER)
    return (
        "" if verdict.state is one.sample.state else f"is judged {verdict.state} ({verdict.reason}: {verdict.message})"
    )


def test_samples_of_kubernetes_own_kinds_are_judged_as_read_back(
    api: Api, known: Sequence[Sample], rules: RuleSet
) -> None:
    kinds, stored = check(api, known, builtin(api), rules)
    assert len(kinds) >= OWN_KINDS
    assert not [one.sample.name for one in stored if one.lost]


@pytest.mark.homelab
@pytest.mark.skipif(location() is None, reason="there is no homelab data set; HOMELAB= names its folder")
def test_samples_of_every_kind_with_a_definition_at_hand_are_judged_as_read_back(
    api: Api, known: Sequence[Sample], rules: RuleSet
) -> None:
    data = location()
    assert data is not None
    homes = install(api, definitions(data).values())
    kinds, stored = check(api, known, homes, rules)
    assert {one.home.name for one in stored if one.lost} == NEWER.keys()
    assert {home.name for home in homes} - kinds == UNRULED
    assert len(kinds) >= KINDS
    assert len(stored) >= SAMPLES


OWN_WORDS = {
    State.CURRENT: (
        (APISERVICES, "v1.local.example", {"group": "local.example", **_VERSION}),
        (FLOW_SCHEMAS, "known-level", {"priorityLevelConfiguration": {"name": "global-default"}}),
    ),
    State.DEGRADED: (
        (APISERVICES, "v1.absent.example", {"group": "absent.example", **_VERSION, "service": _ABSENT}),
        (FLOW_SCHEMAS, "unknown-level", {"priorityLevelConfiguration": {"name": "unknown"}}),
    ),
}
"""Kinds on which the API server itself reports, by what it is bound to find: path, name and spec."""


@pytest.mark.parametrize("state", OWN_WORDS)
def test_what_the_api_server_itself_reports_on_is_judged_by_its_own_words(
    api: Api, rules: RuleSet, state: State
) -> None:
    for path, name, spec in OWN_WORDS[state]:
        api.create(path, {"metadata": {"name": name}, "spec": spec})
        told = api.wait(f"{path}/{name}", lambda found: "conditions" in (found.get("status") or {}))
        assert judge(told, Context(rules=rules)).state is state, told["status"]


def test_a_namespace_that_is_being_deleted_is_terminating(api: Api, rules: RuleSet) -> None:
    head = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "leaving"}}
    api.create("/api/v1/namespaces", head)
    api.delete("/api/v1/namespaces/leaving")
    told = api.get("/api/v1/namespaces/leaving")
    assert told["status"]["phase"] == "Terminating"
    assert judge(told, Context(rules=rules)).state is State.TERMINATING
