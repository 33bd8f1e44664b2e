"""Names, times and digests of releases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusterstack.core.objects import ObjectRef
from clusterstack.helm.digest import input_digest, spec_digest
from clusterstack.helm.spec import ReleaseSpec, RepoChart, parse_duration, short_release_name

SPEC = ReleaseSpec(
    id="apps/web",
    layer="base",
    origin=ObjectRef("helm.toolkit.fluxcd.io", "HelmRelease", "apps", "web"),
    release_name="web",
    namespace="apps",
    storage_namespace="apps",
    chart=RepoChart("https://charts.example.org", "web", "1.0.0"),
    values={"a": 1},
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("1h30m", 5400),
        ("1m0s", 60),
        ("90s", 90),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("0", 0),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5 minutes", "5", "-5m", "m", "5m ", "1d", "5mx"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_a_long_release_name_is_shortened_as_flux_does() -> None:
    assert short_release_name("a" * 53) == "a" * 53
    assert short_release_name("a" * 54) == "a" * 40 + "-a3f01b693925"


def test_the_input_digest_changes_with_what_is_rendered_only() -> None:
    base = input_digest(SPEC, chart_digest="sha256:1", values={"a": 1}, key=b"k")
    assert len(base) == 16
    assert base == input_digest(
        replace(SPEC, timeout=1.0, suspend=True), chart_digest="sha256:1", values={"a": 1}, key=b"k"
    )
    others = [
        input_digest(SPEC, chart_digest="sha256:2", values={"a": 1}, key=b"k"),
        input_digest(SPEC, chart_digest="sha256:1", values={"a": 2}, key=b"k"),
        input_digest(SPEC, chart_digest="sha256:1", values={"a": 1}, key=b"l"),
        input_digest(
            replace(SPEC, post_renderers=({"patches": []},)), chart_digest="sha256:1", values={"a": 1}, key=b"k"
        ),
        input_digest(replace(SPEC, common_labels={"a": "b"}), chart_digest="sha256:1", values={"a": 1}, key=b"k"),
    ]
    assert len({base, *others}) == len(others) + 1


def test_the_spec_digest_does_not_change_when_a_release_moves_to_another_layer() -> None:
    assert spec_digest(SPEC, key=b"k") == spec_digest(replace(SPEC, layer="other"), key=b"k")
    assert spec_digest(SPEC, key=b"k") != spec_digest(replace(SPEC, values={"a": 2}), key=b"k")
