from __future__ import annotations

import asyncio
import shutil
import zlib
from pathlib import Path

import pytest
from aiohttp import web

from clusterstack.errors import SourceError, SpecError
from clusterstack.sources import guard, http
from clusterstack.sources.fetcher import Fetcher, Mirrors
from clusterstack.sources.http import is_pinned

from .conftest import Page, Site, sha256


def status(code: int, **headers: str) -> Page:
    return lambda request, body: web.Response(status=code, headers=headers)


def moved(target: str) -> Page:
    return status(302, Location=target)


async def test_a_file_is_fetched_and_named_by_its_content(fetcher: Fetcher, site: Site) -> None:
    site.pages["/a.yaml"] = b"a: 1\n"
    path = await fetcher.fetch_file(f"{site.url}/a.yaml")
    assert path.read_bytes() == b"a: 1\n"
    assert f"sha256:{path.name}" == sha256(b"a: 1\n")


@pytest.mark.parametrize(
    ("url", "pinned"),
    [
        ("https://github.com/o/r/releases/download/v1.4.0/install.yaml", True),
        ("https://github.com/o/r/releases/download/knative-v1.21.0/net.yaml", True),
        ("https://raw.githubusercontent.com/o/r/v4.2.4/d.yml", True),
        (f"https://raw.githubusercontent.com/o/r/{'a1' * 20}/d.yml", True),
        ("https://h.example/x.yaml?ref=v1.2.3", True),
        ("https://raw.githubusercontent.com/o/r/main/d.yml", False),
        ("https://10.1.2.3/x.yaml", False),
        ("https://h.example/v1/x.yaml", False),
    ],
)
def test_a_url_that_names_a_version_is_pinned(url: str, pinned: bool) -> None:
    assert is_pinned(url) is pinned


async def test_a_pinned_file_is_asked_for_once_even_across_restarts(tmp_path: Path, site: Site) -> None:
    site.pages["/v1.2.3/a.yaml"] = b"a"
    for _ in range(2):
        async with Fetcher(tmp_path / "cache") as fetcher:
            await fetcher.fetch_file(f"{site.url}/v1.2.3/a.yaml")
    assert len(site.requests) == 1


async def test_an_unpinned_file_is_asked_about_again_after_a_while(
    fetcher: Fetcher, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/main/a.yaml"] = b"old"
    url = f"{site.url}/main/a.yaml"
    for _ in range(2):
        await fetcher.fetch_file(url)
    assert len(site.requests) == 1
    monkeypatch.setattr(http, "_FRESH", 0.0)
    assert (await fetcher.fetch_file(url)).read_bytes() == b"old"
    assert "If-None-Match" in site.requests[1].headers
    site.pages["/main/a.yaml"] = b"new"
    assert (await fetcher.fetch_file(url)).read_bytes() == b"new"


@pytest.mark.parametrize("code", [404, 500, 403])
async def test_the_last_good_file_stays_when_the_remote_fails(
    fetcher: Fetcher, site: Site, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(http, "_FRESH", 0.0)
    site.pages["/main/a.yaml"] = b"good"
    url = f"{site.url}/main/a.yaml"
    await fetcher.fetch_file(url)
    site.pages["/main/a.yaml"] = status(code)
    assert (await fetcher.fetch_file(url)).read_bytes() == b"good"


async def test_the_file_is_fetched_again_when_the_cache_is_gone(fetcher: Fetcher, site: Site, tmp_path: Path) -> None:
    site.pages["/v1.2.3/a.yaml"] = b"a"
    await fetcher.fetch_file(f"{site.url}/v1.2.3/a.yaml")
    shutil.rmtree(tmp_path / "cache")
    assert (await fetcher.fetch_file(f"{site.url}/v1.2.3/a.yaml")).read_bytes() == b"a"


async def test_a_failure_names_url_and_status_without_the_query(fetcher: Fetcher, site: Site) -> None:
    with pytest.raises(SourceError) as caught:
        await fetcher.fetch_file(f"{site.url}/nothing.yaml?token=s3cr3t")
    assert f"{site.url}/nothing.yaml answered 404" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.hint


async def test_a_failure_in_passing_is_tried_again(fetcher: Fetcher, site: Site) -> None:
    answers = iter((503, 502))

    def page(request: web.Request, body: bytes) -> web.StreamResponse:
        code = next(answers, 200)
        return web.Response(status=code, body=b"good")

    site.pages["/a.yaml"] = page
    assert (await fetcher.fetch_file(f"{site.url}/a.yaml")).read_bytes() == b"good"
    assert len(site.requests) == 3


async def test_a_large_file_is_refused(fetcher: Fetcher, site: Site) -> None:
    site.pages["/a.yaml"] = b"x" * 5000
    with pytest.raises(SourceError, match="larger than the limit") as caught:
        await fetcher.fetch_file(f"{site.url}/a.yaml", max_bytes=4999)
    assert caught.value.reason == "FetchTooLarge"
    assert not caught.value.retryable


async def test_a_compressed_bomb_is_refused(fetcher: Fetcher, site: Site) -> None:
    site.pages["/a.yaml"] = lambda request, body: web.Response(
        body=zlib.compress(b"\0" * 50_000_000), headers={"Content-Encoding": "deflate"}
    )
    with pytest.raises(SourceError, match="larger than the limit"):
        await fetcher.fetch_file(f"{site.url}/a.yaml", max_bytes=1_000_000)


async def test_an_answer_that_breaks_off_is_not_kept(fetcher: Fetcher, tmp_path: Path) -> None:
    bodies = iter([b"half"] * 3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + next(bodies, b"complete"))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.yaml"
    with pytest.raises(SourceError, match="broke off"):
        await fetcher.fetch_file(url)
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    assert (await fetcher.fetch_file(url)).read_bytes() == b"complete"
    server.close()


async def test_a_remote_that_hangs_is_given_up(tmp_path: Path, site: Site) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(request: web.Request, body: bytes) -> web.StreamResponse:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        return web.Response()

    site.pages["/a.yaml"] = hang
    async with Fetcher(tmp_path / "cache", timeout=0.3) as fetcher:
        with pytest.raises(SourceError, match=r"no complete answer in 0\.3 s"):
            await fetcher.fetch_file(f"{site.url}/a.yaml")
    release.set()


async def test_a_redirect_on_the_same_host_is_followed(fetcher: Fetcher, site: Site) -> None:
    site.pages["/a.yaml"] = moved("/b.yaml")
    site.pages["/b.yaml"] = b"b"
    assert (await fetcher.fetch_file(f"{site.url}/a.yaml")).read_bytes() == b"b"


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest",
        "http://localhost:1/x",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "http://[::1]/",
    ],
)
async def test_a_redirect_into_the_inside_is_refused(fetcher: Fetcher, site: Site, target: str) -> None:
    site.pages["/a.yaml"] = moved(target)
    with pytest.raises(SourceError) as caught:
        await fetcher.fetch_file(f"{site.url}/a.yaml")
    assert caught.value.reason == "FetchRefused"
    assert not caught.value.retryable


async def test_redirects_come_to_an_end(fetcher: Fetcher, site: Site) -> None:
    site.pages["/a.yaml"] = moved("/a.yaml")
    with pytest.raises(SourceError, match="more than 5 redirects"):
        await fetcher.fetch_file(f"{site.url}/a.yaml")


async def test_a_name_that_leads_inside_is_refused_unless_it_is_a_mirror(
    fetcher: Fetcher, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Names:
        async def resolve(self, host: str, port: int, family: int) -> list[dict[str, object]]:
            return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 6, "flags": 0}]

        async def close(self) -> None:
            pass

    monkeypatch.setattr(guard, "ThreadedResolver", Names)
    site.pages["/a.yaml"] = b"a"
    url = f"http://inner.example:{site.port}"
    with pytest.raises(SourceError, match=r"inner\.example is at 127\.0\.0\.1") as caught:
        await fetcher.fetch_file(f"{url}/a.yaml")
    assert caught.value.reason == "FetchRefused"
    mirrored = fetcher.with_mirrors(Mirrors((("https://h.example", url),)))
    assert (await mirrored.fetch_file("https://h.example/a.yaml")).read_bytes() == b"a"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "https://", "http://h/a b", "https://u:p@h.example/x", "h/x"]
)
async def test_what_is_no_remote_file_is_refused(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(SpecError):
        await fetcher.fetch_file(url)


async def test_many_askers_make_one_download(fetcher: Fetcher, site: Site) -> None:
    site.pages["/a.yaml"] = b"a"
    await asyncio.gather(*(fetcher.fetch_file(f"{site.url}/a.yaml") for _ in range(8)))
    assert len(site.requests) == 1


async def test_a_cache_that_cannot_be_written_is_said_to_be(tmp_path: Path, site: Site) -> None:
    site.pages["/a.yaml"] = b"a"
    (tmp_path / "cache").write_text("a file")
    async with Fetcher(tmp_path / "cache") as fetcher:
        with pytest.raises(SourceError, match="cache cannot be written") as caught:
            await fetcher.fetch_file(f"{site.url}/a.yaml")
    assert caught.value.reason == "CacheFailed"


async def test_proxies_of_the_environment_are_not_used(
    fetcher: Fetcher, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    site.pages["/a.yaml"] = b"a"
    assert (await fetcher.fetch_file(f"{site.url}/a.yaml")).read_bytes() == b"a"
