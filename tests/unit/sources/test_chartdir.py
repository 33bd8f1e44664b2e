from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from clusterstack.errors import ChartError, SpecError
from clusterstack.sources.fetcher import Fetcher, GitSpec, Snapshot

from .conftest import Repository, Site, chart_tgz, sha256


async def snapshot_of(fetcher: Fetcher, repository: Repository, files: Mapping[str, str | None]) -> Snapshot:
    repository.commit(files)
    spec = GitSpec(repository.url)
    return await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))


def chart_yaml(name: str, *dependencies: tuple[str, str, str], version: str = "1.0.0") -> str:
    listed = [{"name": one, "version": wanted, "repository": where} for one, wanted, where in dependencies]
    return yaml.safe_dump({"apiVersion": "v2", "name": name, "version": version, "dependencies": listed})


def chart_server(site: Site, name: str, *versions: str) -> str:
    entries = []
    for version in versions:
        data = chart_tgz(name, version)
        site.pages[f"/charts/{name}-{version}.tgz"] = data
        entries.append(
            {"name": name, "version": version, "digest": sha256(data)[7:], "urls": [f"{name}-{version}.tgz"]}
        )
    site.pages["/charts/index.yaml"] = yaml.safe_dump({"entries": {name: entries}}).encode()
    return f"{site.url}/charts"


async def test_a_chart_in_a_directory_is_used_as_it_lies(fetcher: Fetcher, repository: Repository) -> None:
    snapshot = await snapshot_of(
        fetcher, repository, {"charts/web/Chart.yaml": chart_yaml("web"), "charts/web/values.yaml": "a: 1"}
    )
    chart = await fetcher.chart_from_directory(snapshot, "./charts/web/")
    assert str(chart) == "web 1.0.0"
    assert await fetcher.fetch_chart(chart) == snapshot.path / "charts" / "web"


async def test_the_digest_changes_with_the_chart_and_not_with_its_neighbours(
    fetcher: Fetcher, repository: Repository
) -> None:
    first = await snapshot_of(fetcher, repository, {"web/Chart.yaml": chart_yaml("web"), "web/t.yaml": "1"})
    second = await snapshot_of(fetcher, repository, {"other.yaml": "x"})
    third = await snapshot_of(fetcher, repository, {"web/t.yaml": "2"})
    digests = [(await fetcher.chart_from_directory(snapshot, "web")).digest for snapshot in (first, second, third)]
    assert digests[0] == digests[1] != digests[2]


async def test_missing_dependencies_are_put_beside_the_chart(
    fetcher: Fetcher, repository: Repository, site: Site
) -> None:
    repo = chart_server(site, "db", "1.0.0", "1.1.0")
    files: Mapping[str, str | None] = {
        "web/Chart.yaml": chart_yaml("web", ("db", "1.x", repo), ("lib", "*", "file://../lib"), ("have", "*", repo)),
        "web/charts/have/Chart.yaml": chart_yaml("have"),
        "lib/Chart.yaml": chart_yaml("lib", ("deep", "", "file://../deep")),
        "deep/Chart.yaml": chart_yaml("deep"),
    }
    snapshot = await snapshot_of(fetcher, repository, files)
    chart = await fetcher.chart_from_directory(snapshot, "web")
    path = await fetcher.fetch_chart(chart)
    with tarfile.open(path / "charts" / "db.tgz") as tar:
        member = tar.extractfile("db/Chart.yaml")
        assert member is not None
        assert b"version: 1.1.0" in member.read()
    assert (path / "charts" / "lib" / "Chart.yaml").exists()
    assert (path / "charts" / "lib" / "charts" / "deep" / "Chart.yaml").exists()
    assert (path / "charts" / "have" / "Chart.yaml").exists()
    changed = await snapshot_of(fetcher, repository, {"deep/t.yaml": "new"})
    assert (await fetcher.chart_from_directory(changed, "web")).digest != chart.digest


async def test_the_lock_file_decides_the_version_of_a_dependency(
    fetcher: Fetcher, repository: Repository, site: Site
) -> None:
    repo = chart_server(site, "db", "1.0.0", "1.1.0")
    lock = yaml.safe_dump({"dependencies": [{"name": "db", "version": "1.0.0", "repository": repo}]})
    files: Mapping[str, str | None] = {"web/Chart.yaml": chart_yaml("web", ("db", "1.x", repo)), "web/Chart.lock": lock}
    snapshot = await snapshot_of(fetcher, repository, files)
    path = await fetcher.fetch_chart(await fetcher.chart_from_directory(snapshot, "web"))
    assert (path / "charts" / "db.tgz").read_bytes() == chart_tgz("db", "1.0.0")


@pytest.mark.parametrize(
    ("dependency", "error", "message"),
    [
        (("lib", "*", "file://../../outside"), SpecError, "leads out of the source"),
        (("lib", "*", "file:///etc"), SpecError, "leads out of the source"),
        (("lib", "*", "file://../nope"), ChartError, "not in the source"),
        (("../lib", "*", ""), ChartError, r"called '\.\./lib'"),
        (("lib", "*", "alias:other"), ChartError, "only a local helm configuration knows"),
        (("web", "*", "file://../web"), ChartError, "depends on itself"),
    ],
)
async def test_dependencies_that_cannot_be_had_are_refused(
    fetcher: Fetcher, repository: Repository, dependency: tuple[str, str, str], error: type[Exception], message: str
) -> None:
    snapshot = await snapshot_of(fetcher, repository, {"web/Chart.yaml": chart_yaml("web", dependency)})
    with pytest.raises(error, match=message):
        await fetcher.chart_from_directory(snapshot, "web")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no Chart.yaml"),
        ("name: web", "without name or version"),
        ("[", "cannot be read"),
        ("name: ..\nversion: 1.0.0", "no name of a chart"),
        ("name: web\nversion: 1.0.0\ndependencies: 5", "no list"),
    ],
)
async def test_a_directory_that_is_no_chart_is_said_to_be_none(
    fetcher: Fetcher, repository: Repository, text: str | None, message: str
) -> None:
    files: Mapping[str, str | None] = {"web/values.yaml": "a: 1"} | ({} if text is None else {"web/Chart.yaml": text})
    snapshot = await snapshot_of(fetcher, repository, files)
    with pytest.raises(ChartError, match=message) as caught:
        await fetcher.chart_from_directory(snapshot, "web")
    assert caught.value.reason == "ChartInvalid"


async def test_a_path_that_is_not_there_or_leads_out_is_refused(
    fetcher: Fetcher, repository: Repository, tmp_path: Path
) -> None:
    snapshot = await snapshot_of(fetcher, repository, {"a": "1"})
    with pytest.raises(ChartError, match="'nope' is not in the source"):
        await fetcher.chart_from_directory(snapshot, "nope")
    with pytest.raises(SpecError):
        await fetcher.chart_from_directory(snapshot, "../..")
