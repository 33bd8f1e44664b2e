"""What `status` and `why` make of the statuses that the operator writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from clusterstack.api.status import Phase
from clusterstack.cli.cluster import target
from clusterstack.cli.output import CliError, table
from clusterstack.cli.reasons import chain, held_back, holding, suggestion
from clusterstack.cli.records import StackRecord, stack_record
from clusterstack.cli.status import changes, document, picture
from clusterstack.cli.switch import layer_operations
from clusterstack.cli.why import explain
from clusterstack.core.gates import Blocker
from clusterstack.core.graph import Graph
from clusterstack.core.objects import ObjectRef
from clusterstack.core.status import layer_status, stack_status
from clusterstack.core.views import Counts, LayerView, SourceView, StackView

NOW = 1_800_000_000.0
KEDA = ObjectRef("apps", "Deployment", "keda", "keda-operator")


def record(*layers: LayerView, name: str = "home", **stack: Any) -> StackRecord:
    """A stack as the CLI reads it after the operator has written it."""
    view = StackView(generation=1, layers=layers, graph=Graph({}), revision="master@sha1:9f3c2ab1234", **stack)
    manifest = {
        "apiVersion": "clusterstack.dev/v1alpha1",
        "kind": "ClusterStack",
        "metadata": {"name": name},
        "spec": {"layers": [{"name": layer.name} for layer in layers]},
        "status": stack_status(view, previous={}, now=NOW),
    }
    objects = [
        {"metadata": {"name": f"{name}.{layer.name}"}, "status": layer_status(layer, previous={}, now=NOW)}
        for layer in layers
    ]
    return stack_record(manifest, objects)


BASE = LayerView(
    name="base", phase=Phase.READY, since=NOW - 600, objects=Counts(14, 14), started_at=NOW - 700, ready_at=NOW - 600
)
OPERATORS = LayerView(
    name="operators",
    phase=Phase.PROGRESSING,
    since=NOW - 41,
    objects=Counts(3, 5, 1),
    applied_at=NOW - 30,
    blocking=(
        Blocker(ref=KEDA, reason="ImagePullBackOff", message="0/1: ImagePullBackOff"),
        Blocker(ref=ObjectRef("", "Secret", "keda", "certs"), reason="NotFound", message="does not exist yet"),
    ),
)
NETWORK = LayerView(
    name="network",
    phase=Phase.WAITING,
    since=NOW - 300,
    waiting_on=(Blocker(layer="operators", reason="DependencyProgressing", message="is Progressing"),),
)
ROUTES = LayerView(
    name="routes",
    phase=Phase.WAITING,
    since=NOW - 300,
    waiting_on=(Blocker(layer="network", reason="DependencyWaiting", message="is Waiting"),),
)
OPERATORS_LINE = "waiting for Deployment keda/keda-operator 0/1: ImagePullBackOff and 1 more"
HOME = record(BASE, OPERATORS, NETWORK, ROUTES)


def answer(stack: StackRecord, layer: str = "") -> list[str]:
    start = layer or (cause.layer if (cause := stack.cause()) else "")
    return explain(stack, stack.layer(layer), chain(stack, start) if start else (), now=NOW)


KAFKA = Blocker(ref=ObjectRef("kafka.strimzi.io", "Kafka", "kafka", "main"), reason="NotReady", message="Creating")


def test_a_layer_that_is_ready_and_not_healthy_says_so_everywhere() -> None:
    messaging = replace(BASE, name="messaging", unwell=(KAFKA,), sick=1)
    stack = record(BASE, messaging)
    base, sick = picture([stack], now=NOW)[-2:]
    assert sick.endswith("not healthy: Kafka kafka/main: Creating")
    assert "healthy" not in base
    assert changes([stack], {})[-1].endswith("home.messaging Ready 14/14: not healthy: Kafka kafka/main: Creating")
    line = "layer messaging is Ready, but not healthy: Kafka kafka/main: Creating"
    assert answer(stack) == ["home is Ready", "", line]
    assert answer(stack, "messaging") == ["home.messaging is Ready", "", line]
    assert answer(stack, "base") == ["home.base is Ready"]


def test_status_shows_each_layer_in_a_line() -> None:
    assert picture([HOME], now=NOW) == [
        "home   Progressing   1/4 layers   master@9f3c2ab",
        HOME.message,
        "LAYER       STATUS        OBJECTS   SINCE   TOOK   MESSAGE",
        "base        Ready         14/14     10m     100s",
        f"operators   Progressing   3/5       41s     -      {OPERATORS_LINE}",
        "network     Waiting       -         5m      -      waiting for layer operators",
        "routes      Waiting       -         5m      -      waiting for layer network",
    ]
    assert HOME.message.startswith("operators: waiting for Deployment keda/keda-operator 0/1: ImagePullBackOff")


def test_a_stack_that_was_not_looked_at_yet_is_shown_too() -> None:
    fresh = stack_record({"metadata": {"name": "new"}, "spec": {}}, [])
    assert picture([fresh], now=NOW) == ["new   Pending   0/0 layers"]
    assert "the operator has not looked at it yet: is it running?" in answer(fresh)


def test_a_layer_without_an_object_shows_what_the_stack_says() -> None:
    lonely = stack_record(HOME.manifest, [])
    assert [(layer.name, layer.phase, str(layer.counts)) for layer in lonely.layers][1] == (
        "operators",
        "Progressing",
        "3/5",
    )


def test_only_changes_are_told_to_a_pipe() -> None:
    seen: dict[str, str] = {}
    assert len(changes([HOME], seen)) == 4
    assert changes([HOME], seen) == []
    later = record(BASE, LayerView(name="operators", phase=Phase.READY, objects=Counts(5, 5)), NETWORK, ROUTES)
    (line,) = changes([later], seen)
    assert line.endswith(" home.operators Ready 5/5")


def test_a_script_gets_everything() -> None:
    found = document(HOME)
    assert (found["name"], found["ready"], found["revision"]) == ("home", False, "master@9f3c2ab")
    assert found["layers"][1]["blocking"][0]["name"] == "keda-operator"


def test_why_goes_to_the_object_at_the_end_of_the_chain() -> None:
    assert answer(HOME, "routes") == [
        "layer routes Waiting for 5m",
        "└─ layer network Waiting for 5m",
        "   └─ layer operators Progressing for 41s, 3/5 objects",
        "      └─ Deployment keda/keda-operator 0/1: ImagePullBackOff",
        "   also: Secret keda/certs: does not exist yet",
        "",
        "waiting for it: network, routes",
        "",
        "next:",
        "  kubectl -n keda describe deployment keda-operator",
    ]


def test_why_without_a_name_begins_at_the_root_cause() -> None:
    lines = answer(HOME)
    assert lines[0] == "home is not Ready: 1 of 4 layers are"
    assert lines[2].startswith("layer operators Progressing")
    assert lines[-1] == "  kubectl -n keda describe deployment keda-operator"


def test_a_failed_dependency_is_followed_first() -> None:
    broken = LayerView(name="crds", phase=Phase.FAILED, message="kustomize: no such file")
    both = LayerView(name="apps", phase=Phase.WAITING, waiting_on=(Blocker(layer="operators"), Blocker(layer="crds")))
    stack = record(broken, OPERATORS, both)
    assert [link.layer.name for link in chain(stack, "apps") if link.layer] == ["apps", "crds"]
    assert answer(stack, "apps")[-1] == "  kubectl describe stacklayer home.crds"


def test_layers_that_wait_for_each_other_end_the_chain() -> None:
    one = LayerView(name="one", phase=Phase.WAITING, waiting_on=(Blocker(layer="two"),))
    two = LayerView(name="two", phase=Phase.WAITING, waiting_on=(Blocker(layer="one"),))
    assert [link.layer.name for link in chain(record(one, two), "one") if link.layer] == ["one", "two"]


def test_why_is_short_when_all_is_well() -> None:
    assert answer(record(BASE)) == ["home is Ready"]
    assert answer(HOME, "base") == ["home.base is Ready"]


def test_a_source_that_cannot_be_fetched_is_told_beside_it() -> None:
    source = SourceView(name="infra", ready=False, reason="GitTimeout", message="no answer within 60s")
    assert "SourceReady=False: infra: no answer within 60s" in answer(record(BASE, sources=(source,)))


def test_an_object_leads_to_the_layers_that_wait_for_it() -> None:
    for wanted in (["deployment", "keda", "keda-operator"], ["Deployment.apps", "keda", "keda-operator"]):
        ((stack, layer, blocker),) = holding([HOME], wanted)
        assert (stack.name, layer.name, blocker.ref) == ("home", "operators", KEDA)
    assert list(holding([HOME], ["deployment", "other", "keda-operator"])) == []
    assert held_back(HOME, "operators") == ("network", "routes")


@pytest.mark.parametrize(
    ("blocker", "expected"),
    [
        (Blocker(ref=ObjectRef("", "Secret", "a", "b"), reason="NotFound"), "kubectl -n a get secret b"),
        (Blocker(ref=ObjectRef("", "Namespace", "", "b"), reason="NotFound"), "kubectl get namespace b"),
        (
            Blocker(ref=ObjectRef("kafka.strimzi.io", "Kafka", "a", "b")),
            "kubectl -n a describe kafka.kafka.strimzi.io b",
        ),
        (
            Blocker(ref=ObjectRef("keda.sh", "ScaledObject", "a", "b"), reason="KindNotServed"),
            "kubectl api-resources --api-group=keda.sh    # who installs ScaledObject?",
        ),
        (
            Blocker(ref=ObjectRef("helm.toolkit.fluxcd.io", "HelmRelease", "a", "b"), reason="Conflict"),
            "kubectl describe stacklayer home.base",
        ),
        (
            Blocker(ref=ObjectRef("", "Secret", "a", "b"), reason="NamespaceMissing"),
            "kubectl get namespace a -o yaml",
        ),
        (Blocker(ref=ObjectRef("", "Namespace", "", "b"), reason="NamespaceMissing"), "kubectl get namespace b"),
        (
            Blocker(ref=ObjectRef("", "Pod", "a", "b"), reason="QuotaExceeded"),
            "kubectl -n a describe resourcequota",
        ),
        (
            Blocker(
                ref=ObjectRef("apps", "Deployment", "a", "b"),
                reason="WebhookNotReady",
                message="webhook v.example.org of service istio/istiod has no ready endpoints",
            ),
            "kubectl -n istio get service,endpointslices,pods    # of istiod",
        ),
        (
            Blocker(ref=ObjectRef("apps", "Deployment", "a", "b"), reason="Invalid"),
            "kubectl describe stacklayer home.base",
        ),
        (Blocker(reason="Approval"), "kubectl describe stacklayer home.base"),
        (None, "kubectl describe stacklayer home.base"),
    ],
)
def test_the_next_command_fits_what_is_in_the_way(blocker: Blocker | None, expected: str) -> None:
    assert suggestion(blocker, stack="home", layer="base") == expected


OTHER = record(BASE, name="other")


@pytest.mark.parametrize(
    ("stacks", "text", "expected"),
    [
        ([HOME], "", ("home", None)),
        ([HOME, OTHER], "other", ("other", None)),
        ([HOME, OTHER], "routes", ("home", "routes")),
        ([HOME, OTHER], "home.base", ("home", "base")),
        ([HOME, OTHER], "other/base", ("other", "base")),
    ],
)
def test_a_name_stands_for_a_stack_or_a_layer(
    stacks: Sequence[StackRecord], text: str, expected: tuple[str, str | None]
) -> None:
    stack, layer = target(stacks, text)
    assert (stack.name, layer.name if layer else None) == expected


@pytest.mark.parametrize(
    ("stacks", "text", "code"),
    [([], "", 4), ([HOME, OTHER], "", 2), ([HOME, OTHER], "base", 2), ([HOME], "bass", 4)],
)
def test_a_name_for_nothing_or_for_two_things_is_refused(stacks: Sequence[StackRecord], text: str, code: int) -> None:
    with pytest.raises(CliError) as caught:
        target(stacks, text)
    assert caught.value.code == code
    assert caught.value.hint


def test_suspending_a_layer_hits_that_layer_only() -> None:
    layer = HOME.layer("network")
    assert layer is not None
    assert layer_operations(HOME, layer, suspend=True) == [
        {"op": "test", "path": "/spec/layers/2/name", "value": "network"},
        {"op": "add", "path": "/spec/layers/2/suspend", "value": True},
    ]


def test_a_layer_of_a_flux_tree_is_suspended_in_git() -> None:
    tree = stack_record({**HOME.manifest, "spec": {"flux": {"path": "clusters/home"}}}, [])
    with pytest.raises(CliError, match="out of Git"):
        layer_operations(tree, tree.layers[0], suspend=True)


def test_colours_do_not_shift_columns() -> None:
    rows = [("A", "STATUS", "B"), ("x", "Ready", "y"), ("xx", "Failed", "")]
    assert table(rows) == ["A    STATUS   B", "x    Ready    y", "xx   Failed"]
    painted = table(rows, painted=1, colour=True)
    assert painted[1] == "x    \x1b[32mReady \x1b[0m   y"
