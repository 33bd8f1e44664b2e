"""A scripted web server, local Git repositories and archives for the tests of sources. Nothing leaves the machine."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from clusterstack.sources.fetcher import Fetcher

Page = Callable[[web.Request, bytes], web.StreamResponse]


@dataclass
class Site:
    """A web server on loopback: `pages` by path, and what was asked of it."""

    url: str = ""
    pages: dict[str, bytes | Page] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="no such page")
        if callable(page):
            return await asyncio.to_thread(page, request, await request.read())
        etag = f'"{hashlib.sha256(page).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=page, headers={"ETag": etag})


async def serve() -> tuple[Site, web.AppRunner]:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    host, port = runner.addresses[0][:2]
    site.url = f"http://{host}:{port}"
    return site, runner


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site, runner = await serve()
    yield site
    await runner.cleanup()


@pytest.fixture
async def other_site() -> AsyncIterator[Site]:
    site, runner = await serve()
    yield site
    await runner.cleanup()


@pytest.fixture
async def fetcher(tmp_path: Path) -> AsyncIterator[Fetcher]:
    async with Fetcher(tmp_path / "cache", allow_file=True, timeout=20) as fetcher:
        yield fetcher


class Repository:
    """A Git repository with a work tree, made with the git command."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "master")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": "someone", f"GIT_{role}_EMAIL": "someone@example.invalid"}
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None], message: str = "change") -> str:
        """Write (or with None remove) files, commit, and return the commit's hash."""
        for name, text in files.items():
            path = self.path / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "upstream")


def tgz(files: Mapping[str, bytes | str], *, more: tuple[tuple[tarfile.TarInfo, bytes], ...] = ()) -> bytes:
    """A reproducible .tar.gz of files, and of whatever entries are given in full."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info, data in more:
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def chart_tgz(name: str, version: str, **files: str) -> bytes:
    """A Helm chart's archive."""
    meta = f"apiVersion: v2\nname: {name}\nversion: {version}\n"
    return tgz({f"{name}/Chart.yaml": meta, **{f"{name}/{path}": text for path, text in files.items()}})


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
