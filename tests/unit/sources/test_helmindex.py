from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusterstack.errors import ChartError
from clusterstack.sources import helmindex
from clusterstack.sources.helmindex import read_entries

SHA = "a" * 64

INDEX = f"""\
apiVersion: v1
entries:
  alpha:
  - name: alpha
    version: 1.0.0
    description: |
      text that looks like
      beta:
      - version: 9.9.9
    urls: [alpha-1.0.0.tgz]
  "beta":
    # a comment
    - name: beta
      version: 2.0.0
      digest: {SHA}
      urls:
      - https://elsewhere.example/beta-2.0.0.tgz

    - name: beta
      version: 1.0.0
      digest: sha256:{SHA}
      urls: []
  beta-extra:
  - version: 3.0.0
    urls: [x.tgz]
generated: "2026-01-01T00:00:00Z"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "index.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def only_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(text: bytes, chart: str) -> None:
        pytest.fail("the whole index was parsed")

    monkeypatch.setattr(helmindex, "_whole", never)


@pytest.mark.usefixtures("only_cut")
@pytest.mark.parametrize(
    ("chart", "versions"), [("alpha", ["1.0.0"]), ("beta", ["2.0.0", "1.0.0"]), ("beta-extra", ["3.0.0"])]
)
def test_a_charts_entries_are_read_without_the_rest(tmp_path: Path, chart: str, versions: list[str]) -> None:
    for text in (INDEX, INDEX.replace("\n", "\r\n")):
        listing = read_entries(write(tmp_path, text), chart)
        assert [entry.version for entry in listing.entries] == versions


@pytest.mark.usefixtures("only_cut")
def test_urls_and_digests_are_read(tmp_path: Path) -> None:
    new, old = read_entries(write(tmp_path, INDEX), "beta").entries
    assert new.urls == ("https://elsewhere.example/beta-2.0.0.tgz",)
    assert new.digest == old.digest == f"sha256:{SHA}"


def test_a_missing_chart_names_what_there_is(tmp_path: Path) -> None:
    listing = read_entries(write(tmp_path, INDEX), "gamma")
    assert listing.entries == ()
    assert listing.charts == ("alpha", "beta", "beta-extra")


@pytest.mark.parametrize("chart", ["alpha", "beta", "beta-extra", "gamma"])
def test_an_index_written_differently_says_the_same(tmp_path: Path, chart: str) -> None:
    plain = read_entries(write(tmp_path, INDEX), chart)
    value = yaml.safe_load(INDEX)
    for text in (
        json.dumps(value),
        yaml.safe_dump(value, default_flow_style=True),
        yaml.safe_dump(value, sort_keys=True),
    ):
        assert read_entries(write(tmp_path, text), chart) == plain


def test_an_alias_into_another_chart_is_followed(tmp_path: Path) -> None:
    text = "entries:\n  a:\n  - &one {version: 1.0.0, urls: [a.tgz]}\n  b:\n  - *one\n"
    assert [entry.version for entry in read_entries(write(tmp_path, text), "b").entries] == ["1.0.0"]


@pytest.mark.parametrize(
    "text", ["", "<!DOCTYPE html><html></html>", "entries: [", "just text", "entries: 5\n", "{", "entries:\n"]
)
def test_what_is_no_index_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ChartError, match=r"index\.yaml is no Helm repository index") as caught:
        read_entries(write(tmp_path, text), "alpha")
    assert caught.value.hint


def test_entries_that_cannot_be_used_are_passed_over(tmp_path: Path) -> None:
    text = "entries:\n  a:\n  - null\n  - {}\n  - {version: 1.0.0, urls: null, digest: 5}\n"
    text += "  - {version: 1.1, urls: [u, 5]}\n"
    assert [(e.version, e.urls, e.digest) for e in read_entries(write(tmp_path, text), "a").entries] == [
        ("1.0.0", (), ""),
        ("1.1", ("u",), ""),
    ]


names = st.from_regex(r"[a-z][a-z0-9.-]{0,6}", fullmatch=True)
texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30)
entry = st.fixed_dictionaries(
    {
        "version": st.from_regex(r"v?\d\.\d\.\d", fullmatch=True),
        "description": texts,
        "urls": st.lists(names, max_size=2),
    }
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    entries=st.dictionaries(names, st.lists(entry, min_size=1, max_size=3), min_size=1, max_size=4),
    indent=st.integers(2, 4),
)
def test_any_index_reads_the_same_cut_or_whole(
    tmp_path: Path, entries: dict[str, list[dict[str, object]]], indent: int
) -> None:
    path = write(tmp_path, yaml.safe_dump({"apiVersion": "v1", "entries": entries, "generated": "x"}, indent=indent))
    for chart in entries:
        assert read_entries(path, chart) == helmindex._whole(path.read_bytes(), chart)
