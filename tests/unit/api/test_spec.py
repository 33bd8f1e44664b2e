"""Reading a ClusterStack: what users write, what they get wrong, what defaults do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterstack.api.v1alpha1 import (
    DeletionPolicy,
    DriftMode,
    Duration,
    HealthPolicy,
    LayerSpec,
    effective_layer,
    parse_layer,
    parse_stack,
)
from clusterstack.errors import SpecError


def body(*, name: str = "home", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": "u", "generation": 3}, "spec": spec}


def layered(**layer: Any) -> dict[str, Any]:
    return body(
        sources=[{"name": "infra", "git": {"url": "https://example.com/infra"}}],
        layers=[{"name": "base", "path": "base", **layer}],
    )


def reject(given_body: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        parse_stack(given_body)
    assert caught.value.reason == "InvalidSpec"
    assert not caught.value.retryable
    return str(caught.value)


def test_the_whole_example_of_the_documentation_is_read() -> None:
    stack = parse_stack(
        body(
            interval="10m",
            deletionPolicy="Delete",
            serviceAccount={"name": "deployer", "namespace": "clusterstack"},
            sources=[
                {"name": "infra", "interval": "30s", "git": {"url": "https://example.com/i", "ref": {"tag": "v1"}}}
            ],
            mirrors=[{"from": "https://charts.jetstack.io", "to": "http://mirror.lan/charts.jetstack.io"}],
            layers=[
                {"name": "namespaces", "path": "namespaces"},
                {
                    "name": "base",
                    "dependsOn": ["namespaces"],
                    "requires": [{"apiVersion": "v1", "kind": "Secret", "name": "auth", "namespace": "eso"}],
                    "charts": [
                        {"name": "c", "namespace": "c", "repo": "https://r", "chart": "c", "values": {"a": [1]}}
                    ],
                    "manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}],
                    "postBuild": {"substitute": {"a": "b"}, "substituteFrom": [{"kind": "Secret", "name": "vars"}]},
                    "health": {"expressions": [{"apiVersion": "a/v1", "kind": "A", "current": "true"}]},
                },
            ],
        )
    )
    assert (stack.name, stack.uid, stack.generation, stack.deleting) == ("home", "u", 3, False)
    assert stack.spec.deletion_policy is DeletionPolicy.DELETE
    assert stack.spec.service_account is not None
    assert stack.spec.service_account.username == "system:serviceaccount:clusterstack:deployer"
    assert stack.spec.mirrors[0].from_ == "https://charts.jetstack.io"
    assert stack.spec.sources[0].interval.seconds == 30
    base = stack.spec.layers[1]
    assert base.depends_on == ("namespaces",)
    assert base.path is None
    assert base.charts[0].values == {"a": [1]}
    assert base.charts[0].as_input()["repo"] == "https://r"
    assert base.requires[0].namespace == "eso"


def test_an_object_being_deleted_says_so() -> None:
    given_body = layered()
    given_body["metadata"]["deletionTimestamp"] = "2026-11-23T20:00:00Z"
    assert parse_stack(given_body).deleting


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"dependson": ["x"]}, "spec.layers[base].dependson: unknown field, did you mean dependsOn?"),
        ({"depends_on": ["x"]}, "spec.layers[base].depends_on: unknown field, did you mean dependsOn?"),
        ({"helth": {}}, "spec.layers[base].helth: unknown field, did you mean health?"),
        ({"zzz": 1}, "spec.layers[base].zzz: unknown field"),
        ({"health": {"polici": "Strict"}}, "spec.layers[base].health.polici: unknown field, did you mean policy?"),
        ({"timeout": "10 minutes"}, "spec.layers[base].timeout: must be a duration such as 30s, 10m or 1h30m"),
        ({"dependsOn": "crds"}, "spec.layers[base].dependsOn: must be a list"),
        ({"health": {"policy": "Loose"}}, "spec.layers[base].health.policy: input should be 'Strict', 'KStatus' or"),
        ({"requires": [{"kind": "Secret", "name": "a"}]}, "spec.layers[base].requires[a].apiVersion: is required"),
        ({"name": "Base_1"}, "spec.layers[Base_1].name: 'Base_1' is not valid here"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_was_probably_meant(layer: dict[str, Any], message: str) -> None:
    assert message in reject(layered(**layer))


def test_many_mistakes_make_one_bounded_line() -> None:
    message = reject(layered(**{f"nonsense{n}": n for n in range(9)}))
    assert "\n" not in message
    assert message.endswith("and 4 more")


def test_limits_of_the_schema_hold_here_too() -> None:
    assert "at most 256 items" in reject(body(layers=[{"name": f"l{n}", "path": "p"} for n in range(257)]))


def test_a_url_with_spaces_or_a_strange_scheme_is_refused() -> None:
    for url in ("ext::sh -c x", "--upload-pack=x", "git@github.com:x/y", "https://a b"):
        assert "spec.sources[s].git.url" in reject(body(sources=[{"name": "s", "git": {"url": url}}], layers=[]))


def test_a_layer_without_settings_gets_the_stacks_defaults() -> None:
    given_body = layered()
    given_body["spec"]["defaults"] = {
        "timeout": "3m",
        "health": {"policy": "KStatus"},
        "drift": {"mode": "Report"},
        "commonMetadata": {"labels": {"team": "infra"}},
    }
    spec = parse_stack(given_body).spec
    layer = effective_layer(spec, spec.layers[0])
    assert layer.timeout.seconds == 180
    assert layer.health.policy is HealthPolicy.KSTATUS
    assert layer.drift.mode is DriftMode.REPORT
    assert layer.common_metadata.labels == {"team": "infra"}
    assert layer.source == "infra"
    assert layer.interval is not None
    assert layer.interval.seconds == 600


def test_a_layers_own_fields_win_one_by_one_and_its_lists_as_a_whole() -> None:
    given_body = layered(
        timeout="1m",
        health={"checks": []},
        prune={"maxObjects": 50},
        drift={"ignore": [{"paths": ["/spec/replicas"]}]},
        commonMetadata={"labels": {"tier": "1"}},
    )
    given_body["spec"]["defaults"] = {
        "timeout": "3m",
        "health": {"policy": "Exists", "checks": [{"apiVersion": "v1", "kind": "Secret", "name": "a"}]},
        "prune": {"enabled": False, "maxObjects": 1},
        "drift": {"mode": "Ignore", "ignore": [{"paths": ["/a"]}, {"paths": ["/b"]}]},
        "commonMetadata": {"labels": {"team": "infra"}},
    }
    spec = parse_stack(given_body).spec
    layer = effective_layer(spec, spec.layers[0])
    assert layer.timeout.seconds == 60
    assert layer.health.policy is HealthPolicy.EXISTS
    assert layer.health.checks == ()
    assert (layer.prune.enabled, layer.prune.max_objects, layer.prune.max_percent) == (False, 50, 20)
    assert layer.drift.mode is DriftMode.IGNORE
    assert [rule.paths for rule in layer.drift.ignore] == [("/spec/replicas",)]
    assert layer.common_metadata.labels == {"team": "infra", "tier": "1"}


def test_the_stacks_health_rules_stay_with_the_stack() -> None:
    rule = {"apiVersion": "example.org/v1", "kind": "Widget", "current": "true"}
    given_body = layered()
    given_body["spec"]["defaults"] = {"health": {"policy": "Exists", "expressions": [rule]}}
    spec = parse_stack(given_body).spec
    layer = effective_layer(spec, spec.layers[0])
    assert layer.health.expressions == ()
    assert layer.health.policy is HealthPolicy.EXISTS
    assert len(spec.defaults.health.expressions) == 1


def test_a_value_equal_to_the_built_in_default_still_wins_over_the_stacks() -> None:
    given_body = layered(timeout="10m", drift={"mode": "Correct"})
    given_body["spec"]["defaults"] = {"timeout": "1m", "drift": {"mode": "Ignore"}}
    spec = parse_stack(given_body).spec
    layer = effective_layer(spec, spec.layers[0])
    assert layer.timeout.seconds == 600
    assert layer.drift.mode is DriftMode.CORRECT


def test_the_source_stays_open_when_there_are_several() -> None:
    given_body = layered()
    given_body["spec"]["sources"].append({"name": "other", "git": {"url": "https://example.com/o"}})
    spec = parse_stack(given_body).spec
    assert effective_layer(spec, spec.layers[0]).source is None


def test_the_effective_layer_is_the_same_when_applied_twice() -> None:
    spec = parse_stack(layered(timeout="1m")).spec
    once = effective_layer(spec, spec.layers[0])
    assert effective_layer(spec, once) == once


def test_a_layer_out_of_a_flux_tree_is_read_by_itself() -> None:
    assert parse_layer({"name": "apps", "path": "apps", "dependsOn": ["infra"]}).depends_on == ("infra",)
    with pytest.raises(SpecError, match=r"Kustomization apps\.timeout: must be a duration"):
        parse_layer({"name": "apps", "timeout": "soon"}, where="Kustomization apps")


def test_what_was_read_can_be_written_back() -> None:
    given_body = layered(
        dependsOn=["x"], timeout="1m", manifests=[{"apiVersion": "v1", "kind": "A", "snake_case": {"a_b": 1}}]
    )
    assert parse_stack(given_body).spec.as_input() == given_body["spec"]


def test_models_cannot_be_changed() -> None:
    layer = LayerSpec(name="a")
    with pytest.raises(ValueError, match="frozen"):
        layer.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("250ms", 0.25), ("1h1m1s", 3661)]
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert Duration(text).seconds == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "1 m", "1d", "10m ", "1m\n", "٣m"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        Duration(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_made_of_milliseconds_reads_back_as_the_same(milliseconds: int) -> None:
    assert Duration.of(milliseconds / 1000).seconds == pytest.approx(milliseconds / 1000)
