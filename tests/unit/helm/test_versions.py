"""Versions and constraints: the table is what Masterminds/semver 3.5, Helm's library, answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterstack.helm.versions import Constraint, Version, descending, is_exact, newest

ACCEPTED = [
    ("*", "1.2.3"),
    ("", "0.0.1"),
    ("1.2.3", "v1.2.3"),
    ("v1.2.3", "1.2.3+build"),
    ("1.x", "1.9.9"),
    ("1.2.*", "1.2.9"),
    ("1", "1.4.0"),
    ("^1.2", "1.9.0"),
    ("^0.2.3", "0.2.9"),
    ("^0.0.3", "0.0.3"),
    ("^0", "0.9.0"),
    ("~1.2.3", "1.2.9"),
    ("~2", "2.9.0"),
    ("~>2.1", "2.1.7"),
    (">=1.2, <2", "1.9.9"),
    (">= 1.2 < 2", "1.2.0"),
    ("=> 1.2 =< 2", "2.0.9"),
    ("1.2 - 1.4", "1.4.9"),
    ("1.2 - 1.4.5", "1.2.0"),
    ("<1 || >=3", "3.1.0"),
    (">11", "12.0.0"),
    (">11.1", "11.2.0"),
    ("!=1.2.3", "1.2.4"),
    ("!=1.x", "2.0.0"),
    (">=1.0.0-0", "1.2.0-rc.1"),
    (">=1.0.0-0 <2", "1.2.0-rc.1"),
    ("1.0.0-rc.2", "1.0.0-rc.2"),
    ("~1.2.0-alpha", "1.2.3-beta"),
]
REFUSED = [
    ("1.x", "2.0.0"),
    ("*", "1.2.3-rc.1"),
    (">=1.0.0", "1.2.0-rc.1"),
    (">=1.0.0-0 || >=1.0.0", "0.9.0"),
    ("^1.2", "2.0.0"),
    ("^0.2.3", "0.3.0"),
    ("^0.0.3", "0.0.4"),
    ("~1.2.3", "1.3.0"),
    ("~1.2.3-0", "1.3.0-alpha"),
    (">11", "11.9.0"),
    (">11.1", "11.1.9"),
    ("<=1.2", "1.3.0"),
    ("1.2 - 1.4.5", "1.4.6"),
    ("!=1.x", "1.5.0"),
    (">=1.2, <2", "2.0.0"),
]


@pytest.mark.parametrize(("constraint", "version"), ACCEPTED)
def test_a_version_satisfies_the_constraint(constraint: str, version: str) -> None:
    assert Constraint.parse(constraint).check(Version.parse(version))


@pytest.mark.parametrize(("constraint", "version"), REFUSED)
def test_a_version_does_not_satisfy_the_constraint(constraint: str, version: str) -> None:
    assert not Constraint.parse(constraint).check(Version.parse(version))


@pytest.mark.parametrize(
    "text", ["latest", "1.2.3beta", ">>1", "1..2", ">=", ",1", "1.2.3.4", "a || 1", "1" * 600, "||" * 40]
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="constraint"):
        Constraint.parse(text)


def test_versions_are_ordered_as_semver_says() -> None:
    texts = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "v1.1",
    ]
    assert [str(version) for version in reversed(descending(reversed(texts)))] == texts


def test_build_metadata_does_not_count() -> None:
    assert Version.parse("1.0.0+a") == Version.parse("v1.0.0+b")


def test_the_newest_release_is_taken_when_nothing_is_asked_for() -> None:
    assert newest(["1.0.0", "v1.10.0", "1.9.0", "2.0.0-rc.1", "nonsense"]) == "v1.10.0"


def test_the_exact_text_wins_over_a_range() -> None:
    assert newest(["1.2.0", "1.2.9", "1.2"], "1.2") == "1.2"


def test_a_pinned_version_is_found_without_its_v() -> None:
    assert newest(["v1.19.3", "v1.19.4"], "1.19.4") == "v1.19.4"


def test_nothing_is_the_newest_of_what_does_not_match() -> None:
    assert newest(["1.0.0"], ">2") is None


@pytest.mark.parametrize(
    ("text", "exact"), [("1.2.3", True), ("v1.2.3-rc.1+b", True), ("1.2", False), ("1.2.x", False), ("^1.2.3", False)]
)
def test_a_full_version_is_told_from_a_range(text: str, exact: bool) -> None:
    assert is_exact(text) is exact


numbers = st.integers(0, 4)
releases = st.builds(lambda a, b, c: f"{a}.{b}.{c}", numbers, numbers, numbers)


@given(releases, releases)
def test_ranges_agree_with_the_order(low: str, version: str) -> None:
    one, other = Version.parse(low), Version.parse(version)
    assert Constraint.parse(f">={low}").check(other) == (other >= one)
    assert Constraint.parse(f"<{low}").check(other) == (other < one)
    assert Constraint.parse(f"!={low}").check(other) == (other != one)
    assert Constraint.parse(f"^{low}").check(one)
    assert Constraint.parse(f"~{low}").check(one)


@given(st.text(alphabet="0123456789.xX*v-+<>=!~^|, abZ", max_size=40))
def test_any_text_is_a_constraint_or_a_value_error(text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except ValueError:
        return
    constraint.check(Version.parse("1.2.3-rc.1"))
