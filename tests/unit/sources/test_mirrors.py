from __future__ import annotations

import pytest

from clusterstack.sources.mirrors import Mirrors

MIRRORS = Mirrors(
    (
        ("https://charts.jetstack.io", "http://mirror.lan/jetstack"),
        ("https://charts.jetstack.io/special", "http://mirror.lan/special/"),
        ("oci://ghcr.io", "oci://127.0.0.1:5000/ghcr.io"),
        ("https://github.com/", "http://127.0.0.1:8879/github.com/"),
        ("ssh://git@git.example.com/team", "https://git.mirror.lan/team"),
    )
)


@pytest.mark.parametrize(
    ("url", "rewritten"),
    [
        ("https://charts.jetstack.io", "http://mirror.lan/jetstack"),
        ("https://charts.jetstack.io/", "http://mirror.lan/jetstack/"),
        ("https://charts.jetstack.io/a/b.tgz", "http://mirror.lan/jetstack/a/b.tgz"),
        ("https://Charts.Jetstack.io/A.tgz", "http://mirror.lan/jetstack/A.tgz"),
        ("https://charts.jetstack.io/special/x", "http://mirror.lan/special/x"),
        ("https://charts.jetstack.io/specialist", "http://mirror.lan/jetstack/specialist"),
        ("https://charts.jetstack.io?token=1", "http://mirror.lan/jetstack?token=1"),
        ("https://charts.jetstack.io.evil.example/x", "https://charts.jetstack.io.evil.example/x"),
        ("oci://ghcr.io/org/chart", "oci://127.0.0.1:5000/ghcr.io/org/chart"),
        ("https://github.com/org/repo.git", "http://127.0.0.1:8879/github.com/org/repo.git"),
        ("git@git.example.com:team/repo.git", "https://git.mirror.lan/team/repo.git"),
        ("git@git.example.com:other/repo.git", "git@git.example.com:other/repo.git"),
        ("http://charts.jetstack.io/x", "http://charts.jetstack.io/x"),
    ],
)
def test_the_longest_prefix_on_a_path_boundary_is_replaced(url: str, rewritten: str) -> None:
    assert MIRRORS.rewrite(url) == rewritten


def test_a_scheme_alone_is_a_prefix_of_everything_and_the_weakest() -> None:
    mirrors = Mirrors((("https://", "http://proxy.lan/"), ("https://a.example", "http://a.lan")))
    assert mirrors.rewrite("https://b.example/x") == "http://proxy.lan/b.example/x"
    assert mirrors.rewrite("https://a.example/x") == "http://a.lan/x"


def test_a_stacks_mirror_wins_over_the_operators_of_the_same_length() -> None:
    own, base = Mirrors((("https://a.example", "http://own"),)), Mirrors((("https://a.example", "http://base"),))
    assert own.over(base).rewrite("https://a.example/x") == "http://own/x"


def test_a_url_without_a_rule_stays_as_it_is() -> None:
    assert Mirrors().rewrite("https://a.example/%2B+x?y#z") == "https://a.example/%2B+x?y#z"
