from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from clusterstack.errors import ChartError, SpecError
from clusterstack.sources import helmrepo
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.fetcher import ChartRef, Fetcher, Mirrors

from .conftest import Site, chart_tgz, sha256

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1")


def publish(site: Site, *, chart: str = "web", versions: tuple[str, ...] = VERSIONS, **changed: Any) -> str:
    """A Helm repository at /charts with a chart in these versions; `changed` overrides fields of every entry."""
    entries = []
    for version in versions:
        data = chart_tgz(chart, version)
        site.pages[f"/charts/{chart}-{version}.tgz"] = data
        fields = {"name": chart, "version": version, "digest": sha256(data)[7:], "urls": [f"{chart}-{version}.tgz"]}
        entries.append(fields | changed)
    site.pages["/charts/index.yaml"] = yaml.safe_dump({"apiVersion": "v1", "entries": {chart: entries}}).encode()
    return f"{site.url}/charts"


@pytest.fixture
def never_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question asks the remote for its index."""
    monkeypatch.setattr(helmrepo, "_INDEX_FRESH", 0.0)


@pytest.mark.parametrize(
    ("constraint", "version"),
    [
        ("", "1.2.0"),
        ("1.1.0", "1.1.0"),
        ("v1.1.0", "1.1.0"),
        ("~1.1", "1.1.0"),
        (">=1.0.0-0", "2.0.0-rc.1"),
        ("<1.1 || >5", "1.0.0"),
    ],
)
async def test_the_newest_version_that_satisfies_is_fetched(
    fetcher: Fetcher, site: Site, constraint: str, version: str
) -> None:
    repo = publish(site)
    chart = await fetcher.resolve_chart(ChartRef(repo, "web", constraint))
    assert str(chart) == f"web {version}"
    path = await fetcher.fetch_chart(chart)
    assert path.read_bytes() == chart_tgz("web", version)
    assert sha256(path.read_bytes()) == chart.digest


async def test_a_trailing_slash_in_the_repository_changes_nothing(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site)
    with_slash, without = [await fetcher.resolve_chart(ChartRef(url, "web")) for url in (repo + "/", repo)]
    assert with_slash.digest == without.digest
    assert "//index" not in "".join(site.paths)


async def test_a_pinned_chart_that_is_cached_needs_no_request(tmp_path: Path, site: Site) -> None:
    ref = ChartRef(publish(site), "web", "1.1.0")
    async with Fetcher(tmp_path / "cache") as fetcher:
        first = await fetcher.resolve_chart(ref)
        await fetcher.fetch_chart(first)
    site.requests.clear()
    async with Fetcher(tmp_path / "cache") as fetcher:
        assert await fetcher.resolve_chart(ref) == first
        assert (await fetcher.fetch_chart(first)).exists()
    assert site.requests == []


async def test_a_pinned_chart_is_found_again_when_the_cache_is_gone(
    fetcher: Fetcher, site: Site, tmp_path: Path
) -> None:
    ref = ChartRef(publish(site), "web", "1.1.0")
    first = await fetcher.resolve_chart(ref)
    await fetcher.fetch_chart(first)
    shutil.rmtree(tmp_path / "cache")
    assert await fetcher.resolve_chart(ref) == first
    assert (await fetcher.fetch_chart(first)).exists()


@pytest.mark.usefixtures("never_recent")
async def test_an_unchanged_index_is_not_downloaded_twice(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site)
    for _ in range(2):
        await fetcher.resolve_chart(ChartRef(repo, "web", "1.x"))
    assert site.paths == ["/charts/index.yaml"] * 2
    assert "If-None-Match" in site.requests[1].headers


async def test_a_recent_index_is_not_asked_for_again(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site)
    await asyncio.gather(
        *(fetcher.resolve_chart(ChartRef(repo, "web", constraint)) for constraint in ("1.0.x", "1.1.x"))
    )
    await fetcher.resolve_chart(ChartRef(repo, "web", "1.2.x"))
    assert site.paths.count("/charts/index.yaml") <= 2


async def test_a_version_published_a_moment_ago_is_found(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site)
    await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"))
    publish(site, versions=(*VERSIONS, "3.0.0"))
    assert (await fetcher.resolve_chart(ChartRef(repo, "web", "3.0.0"))).version == "3.0.0"


@pytest.mark.usefixtures("never_recent")
async def test_the_last_good_index_answers_when_the_remote_fails(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site)
    first = await fetcher.resolve_chart(ChartRef(repo, "web", "1.x"))
    site.pages["/charts/index.yaml"] = lambda request, body: web.Response(status=500)
    assert await fetcher.resolve_chart(ChartRef(repo, "web", "1.x")) == first
    with pytest.raises(ChartError, match="answered 500"):
        await fetcher.resolve_chart(ChartRef(repo, "web", "9.x"))


async def test_a_missing_version_names_repository_chart_version_and_the_newest(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site)
    with pytest.raises(ChartError) as caught:
        await fetcher.resolve_chart(ChartRef(repo, "web", "3.1.4"))
    assert caught.value.reason == "ChartVersionNotFound"
    assert (
        str(caught.value) == f"{repo} has no version 3.1.4 of chart web; the newest are 2.0.0-rc.1, 1.2.0, 1.1.0, 1.0.0"
    )


async def test_a_missing_chart_names_the_ones_that_are_called_alike(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site, chart="cert-manager")
    with pytest.raises(ChartError, match="has no chart cert-manger; it has cert-manager") as caught:
        await fetcher.resolve_chart(ChartRef(repo, "cert-manger"))
    assert caught.value.reason == "ChartNotFound"


async def test_an_index_without_digests_still_gives_a_known_digest(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site, digest="")
    chart = await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"))
    assert chart.digest == sha256(chart_tgz("web", "1.0.0"))


async def test_an_archive_that_is_not_what_the_index_says_is_refused(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site)
    site.pages["/charts/web-1.0.0.tgz"] = chart_tgz("web", "6.6.6")
    chart = await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"))
    with pytest.raises(ChartError, match="expected sha256:") as caught:
        await fetcher.fetch_chart(chart)
    assert caught.value.reason == "DigestMismatch"


async def test_a_web_page_is_not_taken_for_an_archive(fetcher: Fetcher, site: Site) -> None:
    repo = publish(site, digest="")
    site.pages["/charts/web-1.0.0.tgz"] = b"<html>sign in</html>"
    with pytest.raises(ChartError, match="no chart archive") as caught:
        await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"))
    assert caught.value.reason == "ChartInvalid"


async def test_a_repository_that_is_not_there_is_said_to_be_unreachable(fetcher: Fetcher, site: Site) -> None:
    with pytest.raises(ChartError, match=r"index of .* answered 404") as caught:
        await fetcher.resolve_chart(ChartRef(f"{site.url}/nothing", "web"))
    assert caught.value.reason == "ChartFetchFailed"
    with pytest.raises(ChartError, match="cannot connect"):
        await fetcher.resolve_chart(ChartRef("http://127.0.0.1:1/charts", "web"))


async def test_the_account_goes_to_the_repository_and_nowhere_else(
    fetcher: Fetcher, site: Site, other_site: Site
) -> None:
    repo = publish(site, urls=[f"{other_site.url}/web.tgz"], digest="")
    other_site.pages["/web.tgz"] = chart_tgz("web", "1.0.0")
    account = Credentials(username="me", password="pass")
    await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"), account)
    assert site.requests[0].headers["Authorization"].startswith("Basic ")
    assert "Authorization" not in other_site.requests[0].headers
    await fetcher.resolve_chart(ChartRef(repo, "web", "1.1.0", pass_credentials=True), account)
    assert "Authorization" in other_site.requests[1].headers


async def test_mirrors_serve_index_and_archive_elsewhere(fetcher: Fetcher, site: Site) -> None:
    publish(site, urls=["https://github.com/org/releases/web.tgz"], digest="")
    site.pages["/gh/org/releases/web.tgz"] = chart_tgz("web", "1.0.0")
    mirrors = Mirrors((("https://charts.example", f"{site.url}/charts"), ("https://github.com", f"{site.url}/gh")))
    chart = await fetcher.with_mirrors(mirrors).resolve_chart(ChartRef("https://charts.example", "web", "1.0.0"))
    assert chart.url == "https://github.com/org/releases/web.tgz"
    assert site.paths == ["/charts/index.yaml", "/gh/org/releases/web.tgz"]


async def test_a_relative_url_counts_from_the_repository_not_from_its_mirror(fetcher: Fetcher, site: Site) -> None:
    publish(site, urls=["../archives/web.tgz"], digest="")
    site.pages["/archives/web.tgz"] = chart_tgz("web", "1.0.0")
    mirrors = Mirrors((("https://h.example", site.url),))
    chart = await fetcher.with_mirrors(mirrors).resolve_chart(ChartRef("https://h.example/charts", "web", "1.0.0"))
    assert chart.url == "https://h.example/archives/web.tgz"


async def test_many_askers_make_one_download(fetcher: Fetcher, site: Site) -> None:
    ref = ChartRef(publish(site), "web", "1.0.0")
    charts = await asyncio.gather(*(fetcher.resolve_chart(ref) for _ in range(8)))
    await asyncio.gather(*(fetcher.fetch_chart(chart) for chart in charts))
    assert sorted(site.paths) == ["/charts/index.yaml", "/charts/web-1.0.0.tgz"]


@pytest.mark.parametrize(
    "ref",
    [
        ChartRef("https://h.example", ".."),
        ChartRef("https://h.example", "a/b"),
        ChartRef("https://h.example", ""),
        ChartRef("oci://h.example/x", "a/../b"),
        ChartRef("ftp://h.example", "a"),
        ChartRef("charts", "a"),
        ChartRef("https://u:p@h.example", "a"),
        ChartRef("https://h.example", "a", "not a version"),
    ],
)
async def test_a_reference_that_no_repository_could_answer_is_refused(fetcher: Fetcher, ref: ChartRef) -> None:
    with pytest.raises(SpecError):
        await fetcher.resolve_chart(ref)
