"""Everything that the homelab's repository refers to, through mirrors, from its data set's own server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusterstack.sources.fetcher import ChartRef, Fetcher, GitSpec, Mirrors, Snapshot

pytestmark = pytest.mark.homelab

HOMELAB = Path(os.environ.get("HOMELAB") or Path(__file__).parents[4] / "shared" / "homelab")
REPOSITORY = GitSpec("https://github.com/michael-willingham/infra.git", branch="master")


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrors]:
    """The data set's server on a free port, as the mirror of all the world."""
    if not (HOMELAB / "serve.py").exists():
        pytest.skip(f"the homelab data set is not at {HOMELAB}; set HOMELAB=")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bare = tmp_path_factory.mktemp("homelab") / "infra.git"
    command = [sys.executable, str(HOMELAB / "serve.py"), "--port", str(port), "--git", str(bare)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("serving")
            base = f"127.0.0.1:{port}"
            yield Mirrors((("https://", f"http://{base}/"), ("oci://", f"oci://{base}/")))
        finally:
            server.kill()


@pytest.fixture
async def snapshot(fetcher: Fetcher, mirrors: Mirrors) -> Snapshot:
    world = fetcher.with_mirrors(mirrors)
    return await world.fetch_git(REPOSITORY, await world.resolve_git(REPOSITORY))


def documents(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    for path in sorted(snapshot.path.rglob("*.yaml")):
        if "docs" not in path.relative_to(snapshot.path).parts:
            yield from (value for value in yaml.safe_load_all(path.read_text()) if isinstance(value, dict))


async def test_the_repository_is_laid_out_as_it_is_committed(snapshot: Snapshot) -> None:
    for path in (HOMELAB / "repo").rglob("*"):
        if path.is_file():
            name = path.relative_to(HOMELAB / "repo")
            assert (snapshot.path / name).read_bytes() == path.read_bytes()
    assert snapshot.tree_hash("base") != snapshot.tree_hash("network")


async def test_every_chart_resolves_and_downloads_through_the_mirrors(
    fetcher: Fetcher, mirrors: Mirrors, snapshot: Snapshot
) -> None:
    world = fetcher.with_mirrors(mirrors)
    repos = {
        one["metadata"]["name"]: one["spec"]["url"] for one in documents(snapshot) if one["kind"] == "HelmRepository"
    }
    charts = [
        one["spec"]["chart"]["spec"]
        for one in documents(snapshot)
        if one["kind"] == "HelmRelease" and "chart" in one["spec"]
    ]
    charts += [one["spec"] for one in documents(snapshot) if one["kind"] == "HelmChart"]

    async def fetch(spec: dict[str, Any]) -> Path:
        ref = ChartRef(repos[spec["sourceRef"]["name"]], spec["chart"], spec["version"])
        chart = await world.resolve_chart(ref)
        assert chart.version == spec["version"]
        return await world.fetch_chart(chart)

    paths = await asyncio.gather(*map(fetch, charts))
    assert len(paths) == 36
    assert len({path.name for path in paths}) == 33


async def test_every_remote_resource_downloads_through_the_mirrors(
    fetcher: Fetcher, mirrors: Mirrors, snapshot: Snapshot
) -> None:
    world = fetcher.with_mirrors(mirrors)
    urls = {url for one in documents(snapshot) for url in one.get("resources") or () if str(url).startswith("https://")}
    assert len(urls) == 5
    for url in urls:
        path = await world.fetch_file(url)
        assert path.read_bytes() == (HOMELAB / "site" / url.removeprefix("https://")).read_bytes()
