"""Git sources against real repositories, over file:// and over smart HTTP with authentication."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from clusterstack.errors import SourceError, SpecError
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.fetcher import Fetcher, GitSpec, Mirrors, Revision
from clusterstack.sources.gitcommand import Git, Outcome, access, failure

from .conftest import Repository, Site

SECRET = "s3cr3t-t0ken"


def http_backend(repository: Repository, *, account: str = "") -> Callable[[web.Request], web.StreamResponse]:
    """Serve the repository at /repo.git as git's own web server program does; with an account, to it alone."""
    wanted = "Basic " + base64.b64encode(account.encode()).decode()

    def page(request: web.Request) -> web.StreamResponse:
        if account and request.headers.get("Authorization") not in (wanted, f"Bearer {SECRET}"):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        done = subprocess.run(
            ["git", "http-backend"],
            input=request["body"],
            capture_output=True,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(repository.path / ".git"),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": request.path.removeprefix("/repo.git"),
                "QUERY_STRING": request.query_string,
                "REQUEST_METHOD": request.method,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            },
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return web.Response(status=int(fields.pop("Status", "200").split()[0]), headers=fields, body=body)

    return page


@pytest.fixture
def git_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Publish a repository on the site; returns its URL."""
    handle = site.handle

    def publish(repository: Repository, *, account: str = "") -> str:
        page = http_backend(repository, account=account)
        for path in ("/repo.git/info/refs", "/repo.git/git-upload-pack"):
            site.pages[path] = page
        return f"{site.url}/repo.git"

    async def with_body(request: web.Request) -> web.StreamResponse:
        request["body"] = await request.read()
        return await asyncio.to_thread(asyncio.run, handle(request)) if request.path.startswith("/repo") else await handle(request)

    site.handle = with_body  # type: ignore[method-assign]
    return publish


@pytest.fixture
async def site() -> object:  # the router holds the bound method, so the site is made here with an indirection
    raise NotImplementedError


async def test_a_branch_is_resolved_and_fetched(fetcher: Fetcher, repository: Repository) -> None:
    commit = repository.commit({"base/a.yaml": "a: 1\n", "b.yaml": "b: 1\n"})
    spec = GitSpec(repository.url)
    revision = await fetcher.resolve_git(spec)
    assert str(revision) == f"master@sha1:{commit}"
    assert revision.short == f"master@{commit[:7]}"
    snapshot = await fetcher.fetch_git(spec, revision)
    assert snapshot.revision == f"master@sha1:{commit}"
    assert (snapshot.path / "base" / "a.yaml").read_text() == "a: 1\n"
    assert not (snapshot.path / ".git").exists()
