"""Git and charts on loopback, as the real git and any HTTP client see them."""

from __future__ import annotations

import hashlib
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from testbed.gitrepo import GitRepository
from testbed.site import Site, pack_charts


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def make_chart(folder: Path) -> Path:
    chart = folder / "web"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: web\nversion: 1.2.3\n")
    (chart / "templates" / "page.yaml").write_text("kind: ConfigMap\n")
    return folder


def test_a_repository_is_cloned_over_http_and_shows_new_commits(tmp_path: Path) -> None:
    git = GitRepository(tmp_path / "git" / "infra.git").create()
    commit = git.commit("Add", {"a/b.yaml": "x: 1\n"})
    with Site(tmp_path) as site:
        target = tmp_path / "clone"
        url = f"{site.url}/git/infra.git"
        subprocess.run(["git", "clone", "--quiet", "--depth=1", "-b", "main", url, target], check=True)
        assert (target / "a" / "b.yaml").read_text() == "x: 1\n"
        git.commit("Remove", {"a/b.yaml": None})
        listed = subprocess.run(["git", "ls-remote", url, "main"], check=True, capture_output=True, text=True).stdout
    assert commit not in listed


def test_packed_charts_have_an_index_with_their_digests_and_stay_the_same(tmp_path: Path) -> None:
    source = make_chart(tmp_path / "source")
    pack_charts(source, tmp_path / "charts")
    with Site(tmp_path) as site:
        index = yaml.safe_load(get(f"{site.url}/charts/index.yaml"))
        entry = index["entries"]["web"][0]
        archive = get(f"{site.url}/charts/{entry['urls'][0]}")
    assert hashlib.sha256(archive).hexdigest() == entry["digest"]
    pack_charts(source, tmp_path / "again")
    assert (tmp_path / "again" / "web-1.2.3.tgz").read_bytes() == archive


def test_a_site_refuses_what_it_is_told_to_refuse(tmp_path: Path) -> None:
    pack_charts(make_chart(tmp_path / "source"), tmp_path / "charts")
    with Site(tmp_path) as site:
        site.refusing["/charts"] = 401
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            get(f"{site.url}/charts/index.yaml")
        refused.value.close()
        site.refusing.clear()
        assert get(f"{site.url}/charts/index.yaml")


def test_nothing_else_below_the_root_is_served(tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("no")
    with Site(tmp_path) as site, pytest.raises(urllib.error.HTTPError, match="404") as refused:
        get(f"{site.url}/private.txt")
    refused.value.close()
