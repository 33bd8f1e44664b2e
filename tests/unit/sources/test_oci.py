"""OCI registries, played by the tests' web server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from clusterstack.errors import ChartError, SourceError, SpecError
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.fetcher import ChartRef, Fetcher, OciSpec
from clusterstack.sources.oci import Repository

from .conftest import Page, Site, chart_tgz, sha256, tgz

HELM = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
FLUX = "application/vnd.cncf.flux.content.v1.tar+gzip"


def push(site: Site, name: str, tag: str, data: bytes, *, media_type: str = HELM) -> str:
    """Put an artifact of one layer into the registry; returns the digest of its manifest."""
    layer = {"mediaType": media_type, "digest": sha256(data), "size": len(data)}
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": sha256(b"{}"), "size": 2}
    manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    site.pages[f"/v2/{name}/blobs/{sha256(data)}"] = data
    for reference in (tag, sha256(manifest)):
        site.pages[f"/v2/{name}/manifests/{reference}"] = manifest
    tags = site.pages.get(f"/v2/{name}/tags/list", b'{"tags": []}')
    assert isinstance(tags, bytes)
    site.pages[f"/v2/{name}/tags/list"] = json.dumps({"name": name, "tags": [*json.loads(tags)["tags"], tag]}).encode()
    return sha256(manifest)


def push_charts(site: Site, *versions: str) -> str:
    for version in versions:
        push(site, "org/web", version.replace("+", "_"), chart_tgz("web", version))
    return site.url.replace("http://", "oci://") + "/org"


def guarded(page: bytes, *, token: str, realm: str) -> Page:
    def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {token}":
            challenge = f'Bearer realm="{realm}",service="registry",scope="repository:org/web:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(body=page)

    return answer


def require_token(site: Site, *, token: str = "t0ken") -> None:
    for path, page in list(site.pages.items()):
        if isinstance(page, bytes):
            site.pages[path] = guarded(page, token=token, realm=f"{site.url}/token")
    site.pages["/token"] = lambda request, body: web.json_response({"token": token, "expires_in": 300})


# -- charts


@pytest.mark.parametrize(
    ("constraint", "version"),
    [
        ("1.1.0", "1.1.0"),
        ("", "1.2.0+b.1"),
        ("~1.1", "1.1.0"),
        ("1.2.0+b.1", "1.2.0+b.1"),
        ("v1.1.0", "1.1.0"),
        (">1.2-0", "2.0.0-rc.1"),
    ],
)
async def test_a_chart_is_resolved_and_fetched(fetcher: Fetcher, site: Site, constraint: str, version: str) -> None:
    repo = push_charts(site, "1.0.0", "1.1.0", "1.2.0+b.1", "2.0.0-rc.1")
    chart = await fetcher.resolve_chart(ChartRef(repo, "web", constraint))
    assert (chart.name, chart.version) == ("web", version)
    assert chart.digest == sha256(chart_tgz("web", version))
    assert (await fetcher.fetch_chart(chart)).read_bytes() == chart_tgz("web", version)


async def test_an_exact_version_lists_no_tags(fetcher: Fetcher, site: Site) -> None:
    repo = push_charts(site, "1.0.0")
    await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"))
    assert site.paths == ["/v2/org/web/manifests/1.0.0"]


async def test_tags_are_read_over_all_pages(fetcher: Fetcher, site: Site) -> None:
    repo = push_charts(site, "1.0.0", "1.1.0")

    def page(request: web.Request, body: bytes) -> web.StreamResponse:
        if "last" in request.query:
            return web.json_response({"tags": ["1.1.0"]})
        return web.json_response(
            {"tags": ["1.0.0"]}, headers={"Link": '</v2/org/web/tags/list?last=1.0.0&n=1>; rel="next"'}
        )

    site.pages["/v2/org/web/tags/list"] = page
    assert (await fetcher.resolve_chart(ChartRef(repo, "web", "1.x"))).version == "1.1.0"


async def test_a_missing_chart_and_a_missing_version_are_told_apart(fetcher: Fetcher, site: Site) -> None:
    repo = push_charts(site, "1.0.0", "1.1.0")
    with pytest.raises(ChartError, match="has no chart wep") as caught:
        await fetcher.resolve_chart(ChartRef(repo, "wep", "1.0.0"))
    assert caught.value.reason == "ChartNotFound"
    with pytest.raises(
        ChartError, match=r"has no version 3\.0\.0 of chart web; the newest are 1\.1\.0, 1\.0\.0"
    ) as caught:
        await fetcher.resolve_chart(ChartRef(repo, "web", "3.0.0"))
    assert caught.value.reason == "ChartVersionNotFound"


async def test_an_image_is_no_chart(fetcher: Fetcher, site: Site) -> None:
    push(site, "org/web", "1.0.0", b"layer", media_type="application/vnd.oci.image.layer.v1.tar+gzip")
    with pytest.raises(ChartError, match="is no Helm chart"):
        await fetcher.resolve_chart(ChartRef(site.url.replace("http", "oci") + "/org", "web", "1.0.0"))


async def test_a_blob_that_is_not_what_its_digest_says_is_refused(fetcher: Fetcher, site: Site) -> None:
    repo = push_charts(site, "1.0.0")
    site.pages[f"/v2/org/web/blobs/{sha256(chart_tgz('web', '1.0.0'))}"] = chart_tgz("web", "6.6.6")
    chart = await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"))
    with pytest.raises(ChartError) as caught:
        await fetcher.fetch_chart(chart)
    assert caught.value.reason == "DigestMismatch"


# -- authorization


async def test_an_anonymous_token_is_fetched_once_and_reused(fetcher: Fetcher, site: Site) -> None:
    repo = push_charts(site, "1.0.0")
    require_token(site)
    chart = await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"))
    await fetcher.fetch_chart(chart)
    assert site.paths.count("/token") == 1
    asked = next(request for request in site.requests if request.path == "/token")
    assert dict(asked.query) == {"scope": "repository:org/web:pull", "service": "registry"}
    assert "Authorization" not in asked.headers


async def test_an_account_is_shown_to_the_token_service_only(fetcher: Fetcher, site: Site) -> None:
    repo = push_charts(site, "1.0.0")
    require_token(site)
    packed = {"auths": {f"127.0.0.1:{site.port}": {"username": "me", "password": "pass"}}}
    account = Credentials(docker_config=json.dumps(packed))
    await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"), account)
    shown = {request.path: request.headers.get("Authorization", "") for request in site.requests}
    assert shown["/token"].startswith("Basic ")
    assert not any(value.startswith("Basic ") for path, value in shown.items() if path != "/token")


async def test_a_registry_with_passwords_gets_one(fetcher: Fetcher, site: Site) -> None:
    repo = push_charts(site, "1.0.0")
    page = site.pages["/v2/org/web/manifests/1.0.0"]

    def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        if not request.headers.get("Authorization", "").startswith("Basic "):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="registry"'})
        assert isinstance(page, bytes)
        return web.Response(body=page)

    site.pages["/v2/org/web/manifests/1.0.0"] = answer
    account = Credentials(username="me", password="pass")
    assert (await fetcher.resolve_chart(ChartRef(repo, "web", "1.0.0"), account)).version == "1.0.0"


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refused_account_is_said(fetcher: Fetcher, site: Site, code: int) -> None:
    url = site.url.replace("http", "oci") + "/org/web"
    site.pages["/v2/org/web/manifests/1.0.0"] = lambda request, body: web.Response(status=code)
    with pytest.raises(SourceError) as caught:
        await fetcher.resolve_oci(OciSpec(url, tag="1.0.0"))
    assert caught.value.reason == "OciAuthFailed"
    assert "Secret" in caught.value.hint


# -- artifacts


async def test_an_artifact_becomes_a_directory(fetcher: Fetcher, site: Site) -> None:
    digest = push(site, "org/infra", "v1.0.0", tgz({"base/a.yaml": "a", "b.yaml": "b"}), media_type=FLUX)
    spec = OciSpec(site.url.replace("http", "oci") + "/org/infra", tag="v1.0.0")
    artifact = await fetcher.resolve_oci(spec)
    assert artifact.revision == f"v1.0.0@{digest}"
    snapshot = await fetcher.fetch_oci(artifact)
    assert snapshot.revision == artifact.revision
    assert (snapshot.path / "base" / "a.yaml").read_text() == "a"
    push(site, "org/infra", "v1.1.0", tgz({"base/a.yaml": "a", "b.yaml": "changed"}), media_type=FLUX)
    newer = await fetcher.fetch_oci(await fetcher.resolve_oci(OciSpec(spec.url, semver="1.x")))
    assert newer.tree_hash("base") == snapshot.tree_hash("base")
    assert newer.tree_hash() != snapshot.tree_hash()


async def test_digest_goes_before_semver_before_tag(fetcher: Fetcher, site: Site) -> None:
    digests = {
        tag: push(site, "org/infra", tag, tgz({"a": tag}), media_type=FLUX) for tag in ("1.0.0", "1.1.0", "latest")
    }
    url = site.url.replace("http", "oci") + "/org/infra"

    async def digest(**fields: Any) -> str:
        return (await fetcher.resolve_oci(OciSpec(url, **fields))).digest

    assert await digest() == digests["latest"]
    assert await digest(tag="1.0.0") == digests["1.0.0"]
    assert await digest(tag="1.0.0", semver="1.x") == digests["1.1.0"]
    assert await digest(semver="1.x", semver_filter=r"\.0\.0$") == digests["1.0.0"]
    assert await digest(semver="1.x", digest=digests["1.0.0"]) == digests["1.0.0"]


async def test_a_chart_may_be_an_artifact(fetcher: Fetcher, site: Site) -> None:
    push_charts(site, "1.0.0")
    spec = OciSpec(site.url.replace("http", "oci") + "/org/web", tag="1.0.0", layer_media_type=HELM, operation="copy")
    chart = await fetcher.chart_from_artifact(await fetcher.resolve_oci(spec))
    assert (chart.name, chart.version) == ("web", "1.0.0")
    assert (await fetcher.fetch_chart(chart)).read_bytes() == chart_tgz("web", "1.0.0")


async def test_a_missing_tag_or_layer_is_said(fetcher: Fetcher, site: Site) -> None:
    push(site, "org/infra", "1.0.0", tgz({"a": "1"}), media_type=FLUX)
    url = site.url.replace("http", "oci") + "/org/infra"
    for spec, message in (
        (OciSpec(url, tag="nope"), "has no nope"),
        (OciSpec(url, semver=">2"), "has no tag that satisfies >2"),
        (OciSpec(url, tag="1.0.0", layer_media_type="x/y"), "has no layer of type x/y"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            await fetcher.resolve_oci(spec)
        assert caught.value.reason == "OciNotFound"


async def test_an_unsafe_artifact_is_refused_and_not_kept(fetcher: Fetcher, site: Site) -> None:
    push(site, "org/infra", "1.0.0", tgz({"../x": "1"}), media_type=FLUX)
    artifact = await fetcher.resolve_oci(OciSpec(site.url.replace("http", "oci") + "/org/infra", tag="1.0.0"))
    for _ in range(2):
        with pytest.raises(SourceError, match="leads out"):
            await fetcher.fetch_oci(artifact)


@pytest.mark.parametrize(
    "url",
    [
        "oci://",
        "oci://h.example",
        "oci://h.example/Org/x",
        "oci://h.example/a/../b",
        "ftp://h/x",
        "oci://u:p@h.example/x",
        "oci://h.example/x:tag",
    ],
)
def test_what_is_no_repository_is_refused(url: str) -> None:
    with pytest.raises(SpecError):
        Repository.parse(url)


@pytest.mark.parametrize(
    ("url", "base", "name"),
    [
        ("oci://ghcr.io/org/chart", "https://ghcr.io", "org/chart"),
        ("oci://docker.io/nginx", "https://registry-1.docker.io", "library/nginx"),
        ("oci://docker.io/bitnamicharts/x", "https://registry-1.docker.io", "bitnamicharts/x"),
        ("oci://localhost:5000/x", "http://localhost:5000", "x"),
        ("oci://127.0.0.1:5000/x/", "http://127.0.0.1:5000", "x"),
        ("http://mirror.lan/x", "http://mirror.lan", "x"),
    ],
)
def test_a_repository_is_read_from_its_url(url: str, base: str, name: str) -> None:
    assert Repository.parse(url) == Repository(base, name)


def test_plain_http_elsewhere_must_be_asked_for() -> None:
    assert Repository.parse("oci://registry.lan/x").base == "https://registry.lan"
    assert Repository.parse("oci://registry.lan/x", insecure=True).base == "http://registry.lan"
