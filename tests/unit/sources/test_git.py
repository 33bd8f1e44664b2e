"""Git sources against real repositories, over file:// and over smart HTTP with authentication."""

from __future__ import annotations

import asyncio
import base64
import os
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from clusterstack.errors import SourceError, SpecError
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.fetcher import Fetcher, GitSpec, Mirrors, Revision
from clusterstack.sources.gitcommand import Access, Git, Outcome, access, failure

from .conftest import Page, Repository, Site

SECRET = "s3cr3t-t0ken"


def git_page(repository: Repository, *, account: str, protocol: str | None) -> Page:
    """The repository at /repo.git as git's own web server program has it; with an account, for it alone."""
    wanted = "Basic " + base64.b64encode(account.encode()).decode()

    def page(request: web.Request, body: bytes) -> web.StreamResponse:
        if account and request.headers.get("Authorization") not in (wanted, f"Bearer {SECRET}"):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(repository.path / ".git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path.removeprefix("/repo.git"),
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", "") if protocol is None else protocol,
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, check=True, env=environment)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return web.Response(status=int(fields.pop("Status", "200").split()[0]), headers=fields, body=content)

    return page


def publish(site: Site, repository: Repository, *, account: str = "", protocol: str | None = None) -> str:
    """Serve the repository on the site, with an empty `protocol` as servers before Git 2.18 do; returns its URL."""
    for path in ("/repo.git/info/refs", "/repo.git/git-upload-pack"):
        site.pages[path] = git_page(repository, account=account, protocol=protocol)
    return f"{site.url}/repo.git"


# -- what is resolved


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


async def test_commit_goes_before_name_before_semver_before_tag_before_branch(
    fetcher: Fetcher, repository: Repository
) -> None:
    first = repository.commit({"f": "1"})
    repository.git("tag", "-a", "v1.0.0", "-m", "annotated")
    second = repository.commit({"f": "2"})
    repository.git("tag", "v1.1.0")
    repository.git("tag", "v2.0.0-rc.1")
    third = repository.commit({"f": "3"})
    repository.git("branch", "next")
    url = repository.url

    async def resolved(**fields: str) -> str:
        return str(await fetcher.resolve_git(GitSpec(url, **fields)))

    assert await resolved(branch="next") == f"next@sha1:{third}"
    assert await resolved(branch="next", tag="v1.0.0") == f"v1.0.0@sha1:{first}"
    assert await resolved(tag="v1.0.0", semver="1.x") == f"v1.1.0@sha1:{second}"
    assert await resolved(semver="1.x", name="refs/heads/next") == f"refs/heads/next@sha1:{third}"
    assert await resolved(name="refs/heads/next", commit=first) == f"sha1:{first}"
    assert await resolved(branch="master", commit=first) == f"master@sha1:{first}"
    assert await resolved(semver="<1.1") == f"v1.0.0@sha1:{first}"


async def test_a_branch_is_not_mistaken_for_one_that_ends_like_it(fetcher: Fetcher, repository: Repository) -> None:
    repository.commit({"f": "1"})
    repository.git("branch", "x/refs/heads/main")
    with pytest.raises(SourceError, match="has no main") as caught:
        await fetcher.resolve_git(GitSpec(repository.url, branch="main"))
    assert caught.value.reason == "GitRefNotFound"
    assert caught.value.hint


async def test_a_repository_that_is_not_there_is_unreachable(fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        await fetcher.resolve_git(GitSpec((tmp_path / "nowhere").as_uri()))
    assert caught.value.reason == "GitUnreachable"
    assert "\n" not in str(caught.value)


async def test_a_commit_that_is_not_there_is_named(fetcher: Fetcher, repository: Repository) -> None:
    repository.commit({"f": "1"})
    missing = "1" * 40
    spec = GitSpec(repository.url, commit=missing)
    with pytest.raises(SourceError, match=missing) as caught:
        await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    assert caught.value.reason == "GitRefNotFound"


# -- what is fetched


async def test_an_unchanged_directory_keeps_its_tree_hash(fetcher: Fetcher, repository: Repository) -> None:
    repository.commit({"a/x.yaml": "1", "a/deep/y.yaml": "1", "b/z.yaml": "1"})
    spec = GitSpec(repository.url)
    old = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    repository.commit({"b/z.yaml": "2"})
    new = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    assert old.tree_hash("a") == new.tree_hash("./a/") == repository.git("rev-parse", "HEAD:a")
    assert old.tree_hash("b") != new.tree_hash("b")
    assert new.tree_hash() == repository.git("rev-parse", "HEAD^{tree}")
    assert new.tree_hash("a/deep/y.yaml") == repository.git("rev-parse", "HEAD:a/deep/y.yaml")
    assert (old.path / "b/z.yaml").read_text() == "1"


async def test_a_path_that_is_not_in_the_source_is_named(fetcher: Fetcher, repository: Repository) -> None:
    repository.commit({"a/x.yaml": "1"})
    spec = GitSpec(repository.url)
    snapshot = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    with pytest.raises(SourceError, match="'nope' is not in the source at master@") as caught:
        snapshot.tree_hash("nope")
    assert caught.value.reason == "PathNotFound"
    for outside in ("../x", "a/../../etc"):
        with pytest.raises(SpecError):
            snapshot.tree_hash(outside)


async def test_links_and_submodules_are_left_out_and_listed(fetcher: Fetcher, repository: Repository) -> None:
    repository.commit({"a.yaml": "1"})
    (repository.path / "secrets").symlink_to("/var/run/secrets")
    commit = repository.git("rev-parse", "HEAD")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    repository.git("add", "secrets")
    repository.git("commit", "-q", "-m", "links")
    spec = GitSpec(repository.url)
    snapshot = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    assert sorted(path.name for path in snapshot.path.iterdir()) == ["a.yaml"]
    assert snapshot.skipped == ("secrets", "sub")


async def test_files_are_laid_out_byte_for_byte_whatever_the_attributes(
    fetcher: Fetcher, repository: Repository
) -> None:
    repository.commit({"crlf.txt": "a\r\nb\r\n", "id.txt": "$Id$\n", "run.sh": "#!/bin/sh\n"})
    (repository.path / "run.sh").chmod(0o755)
    repository.commit({".gitattributes": "*.txt text eol=crlf ident\n*.sh filter=evil\n"})
    spec = GitSpec(repository.url)
    snapshot = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    for name in ("crlf.txt", "id.txt", "run.sh"):
        blob = repository.git("rev-parse", f"HEAD:{name}")
        assert snapshot.tree_hash(name) == blob
    assert (snapshot.path / "run.sh").stat().st_mode & stat.S_IXUSR


async def test_continuous_integration_files_and_sourceignore_are_left_out(
    fetcher: Fetcher, repository: Repository
) -> None:
    files = {
        ".github/workflows/ci.yaml": "on: push",
        ".sops.yaml": "x",
        "docs/a.yaml": "x",
        "keep/b.yaml": "x",
        "keep/c.tmp": "x",
    }
    repository.commit(
        {**files, ".sourceignore": "/docs/\n", "keep/.sourceignore": "*.tmp\n", "logo.png": "x", "t.yaml": "x"}
    )
    spec = GitSpec(repository.url, ignore="# ours\nt.yaml\n!.sops.yaml\n")
    snapshot = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    found = {path.relative_to(snapshot.path).as_posix() for path in snapshot.path.rglob("*") if path.is_file()}
    assert found == {".sops.yaml", ".sourceignore", "keep/.sourceignore", "keep/b.yaml", "logo.png"}


async def test_odd_file_names_survive(fetcher: Fetcher, repository: Repository) -> None:
    names = ["with space.yaml", "new\nline", "ümläut.yaml", '"quoted"', "-dash"]
    repository.commit(dict.fromkeys(names, "x"))
    (repository.path / os.fsdecode(b"latin\xe9")).write_text("x")
    repository.commit({})
    spec = GitSpec(repository.url)
    snapshot = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    assert {path.name for path in snapshot.path.iterdir()} == {*names, os.fsdecode(b"latin\xe9")}


async def test_a_cached_revision_needs_no_remote(fetcher: Fetcher, repository: Repository) -> None:
    repository.commit({"a.yaml": "1"})
    spec = GitSpec(repository.url)
    revision = await fetcher.resolve_git(spec)
    first = await fetcher.fetch_git(spec, revision)
    shutil.rmtree(repository.path)
    assert await fetcher.fetch_git(spec, revision) == first


async def test_everything_is_fetched_again_when_the_cache_is_gone(
    fetcher: Fetcher, repository: Repository, tmp_path: Path
) -> None:
    repository.commit({"a.yaml": "1"})
    spec = GitSpec(repository.url)
    revision = await fetcher.resolve_git(spec)
    first = await fetcher.fetch_git(spec, revision)
    shutil.rmtree(tmp_path / "cache")
    again = await fetcher.fetch_git(spec, revision)
    assert again == first
    assert (again.path / "a.yaml").read_text() == "1"


async def test_a_damaged_repository_of_the_cache_is_replaced(
    fetcher: Fetcher, repository: Repository, tmp_path: Path
) -> None:
    repository.commit({"a.yaml": "1"})
    spec = GitSpec(repository.url)
    await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    repository.commit({"a.yaml": "2"})
    (cached,) = (tmp_path / "cache" / "git").iterdir()
    shutil.rmtree(cached / "objects")
    (cached / "objects").mkdir()
    revision = await fetcher.resolve_git(spec)
    snapshot = await fetcher.fetch_git(spec, revision)
    assert (snapshot.path / "a.yaml").read_text() == "2"


async def test_a_replaced_branch_still_gives_the_old_revision_or_says_it_is_gone(
    fetcher: Fetcher, repository: Repository
) -> None:
    repository.commit({"a.yaml": "1"})
    spec = GitSpec(repository.url)
    old = await fetcher.resolve_git(spec)
    repository.git("commit", "-q", "--amend", "-m", "forced")
    new = await fetcher.resolve_git(spec)
    assert new.commit != old.commit
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "-q", "--prune=now")
    with pytest.raises(SourceError) as caught:
        await fetcher.fetch_git(spec, old)
    assert caught.value.reason == "GitRefNotFound"
    assert (await fetcher.fetch_git(spec, new)).revision == str(new)


async def test_many_askers_make_one_fetch(fetcher: Fetcher, repository: Repository, site: Site) -> None:
    repository.commit({"a.yaml": "1"})
    spec = GitSpec(publish(site, repository))
    revisions = await asyncio.gather(*(fetcher.resolve_git(spec) for _ in range(5)))
    snapshots = await asyncio.gather(*(fetcher.fetch_git(spec, revisions[0]) for _ in range(5)))
    assert len({snapshot.path for snapshot in snapshots}) == 1
    assert site.paths.count("/repo.git/info/refs") == 2


async def test_two_processes_may_share_a_cache(tmp_path: Path, repository: Repository) -> None:
    repository.commit({"a.yaml": "1"})
    spec = GitSpec(repository.url)
    async with (
        Fetcher(tmp_path / "cache", allow_file=True) as one,
        Fetcher(tmp_path / "cache", allow_file=True) as other,
    ):
        revision = await one.resolve_git(spec)
        first, second = await asyncio.gather(one.fetch_git(spec, revision), other.fetch_git(spec, revision))
    assert first == second


# -- over HTTP, with accounts


async def test_a_second_fetch_downloads_only_the_difference(
    fetcher: Fetcher, repository: Repository, site: Site
) -> None:
    blob = base64.b64encode(os.urandom(200_000)).decode()
    repository.commit({"large": blob, "a.yaml": "1"})
    spec = GitSpec(publish(site, repository))
    sizes: list[int] = []
    inner = site.pages["/repo.git/git-upload-pack"]
    assert callable(inner)

    def measured(request: web.Request, body: bytes) -> web.StreamResponse:
        response = inner(request, body)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        sizes.append(len(response.body))
        return response

    site.pages["/repo.git/git-upload-pack"] = measured
    await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    assert max(sizes) > 100_000
    repository.commit({"a.yaml": "2"})
    sizes.clear()
    await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    assert max(sizes) < 10_000


@pytest.mark.parametrize(
    "credentials",
    [Credentials(username="me", password=SECRET), Credentials(bearer=SECRET)],
    ids=["password", "token"],
)
async def test_an_account_opens_a_private_repository(
    fetcher: Fetcher, repository: Repository, site: Site, credentials: Credentials
) -> None:
    commit = repository.commit({"a.yaml": "1"})
    spec = GitSpec(publish(site, repository, account=f"me:{SECRET}"))
    revision = await fetcher.resolve_git(spec, credentials)
    assert revision.commit == commit
    assert (await fetcher.fetch_git(spec, revision, credentials)).tree_hash("a.yaml")


@pytest.mark.parametrize("credentials", [None, Credentials(username="me", password="wr0ng-one")], ids=["none", "wrong"])
async def test_a_refused_account_is_said_without_the_password(
    fetcher: Fetcher, repository: Repository, site: Site, credentials: Credentials | None
) -> None:
    repository.commit({"a.yaml": "1"})
    spec = GitSpec(publish(site, repository, account=f"me:{SECRET}"))
    with pytest.raises(SourceError) as caught:
        await fetcher.resolve_git(spec, credentials)
    assert caught.value.reason == "GitAuthFailed"
    assert "Secret" in caught.value.hint
    assert "wr0ng-one" not in repr(caught.value) + str(caught.value)


async def test_a_redirect_to_another_host_does_not_get_the_password(
    fetcher: Fetcher, repository: Repository, site: Site, other_site: Site
) -> None:
    repository.commit({"a.yaml": "1"})
    target = publish(other_site, repository, account=f"me:{SECRET}").replace("127.0.0.1", "localhost")

    def redirect(request: web.Request, body: bytes) -> web.StreamResponse:
        raise web.HTTPFound(f"{target}/info/refs?{request.query_string}")

    site.pages["/repo.git/info/refs"] = redirect
    for credentials in (Credentials(username="me", password=SECRET), Credentials(bearer=SECRET)):
        with pytest.raises(SourceError) as caught:
            await fetcher.resolve_git(GitSpec(f"{site.url}/repo.git"), credentials)
        assert caught.value.reason == "GitAuthFailed"
    assert other_site.requests
    assert not any("Authorization" in request.headers for request in other_site.requests)


async def test_a_password_in_the_url_works_and_is_never_shown(
    fetcher: Fetcher, repository: Repository, site: Site
) -> None:
    commit = repository.commit({"a.yaml": "1"})
    publish(site, repository, account=f"me:{SECRET}")
    host = site.url.removeprefix("http://")
    assert (await fetcher.resolve_git(GitSpec(f"http://me:{SECRET}@{host}/repo.git"))).commit == commit
    with pytest.raises(SourceError) as caught:
        await fetcher.resolve_git(GitSpec(f"http://me:{SECRET}@{host}/other.git"))
    assert SECRET not in str(caught.value)


async def test_a_mirror_is_asked_instead(fetcher: Fetcher, repository: Repository, site: Site) -> None:
    commit = repository.commit({"a.yaml": "1"})
    publish(site, repository)
    view = fetcher.with_mirrors(Mirrors((("https://github.com/org", site.url),)))
    spec = GitSpec("https://github.com/org/repo.git")
    revision = await view.resolve_git(spec)
    assert revision == Revision("master", commit)
    assert (await view.fetch_git(spec, revision)).revision == f"master@sha1:{commit}"


async def test_a_server_that_hands_out_references_only_is_fetched_from(
    fetcher: Fetcher, repository: Repository, site: Site
) -> None:
    first = repository.commit({"a.yaml": "1"})
    repository.commit({"a.yaml": "2"})
    repository.git("config", "uploadpack.allowAnySHA1InWant", "false")
    spec = GitSpec(publish(site, repository, protocol=""), branch="master", commit=first)
    snapshot = await fetcher.fetch_git(spec, await fetcher.resolve_git(spec))
    assert (snapshot.path / "a.yaml").read_text() == "1"


async def test_a_remote_that_hangs_ends_in_a_timeout_with_no_process_left(tmp_path: Path, site: Site) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(request: web.Request, body: bytes) -> web.StreamResponse:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        return web.Response()

    site.pages["/repo.git/info/refs"] = hang
    async with Fetcher(tmp_path / "cache", timeout=0.5) as fetcher:
        with pytest.raises(SourceError, match=r"had not finished after 0\.5 s") as caught:
            await fetcher.resolve_git(GitSpec(f"{site.url}/repo.git"))
    release.set()
    assert caught.value.reason == "GitTimeout"
    assert not children_of_this_process("git")


def children_of_this_process(name: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue
        if fields[0].partition("(")[2].startswith(name) and int(fields[2].split()[1]) == os.getpid():
            found.append(fields[0])
    return found


async def test_a_cancelled_fetch_leaves_no_process(tmp_path: Path, site: Site) -> None:
    asked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(request: web.Request, body: bytes) -> web.StreamResponse:
        loop.call_soon_threadsafe(asked.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        return web.Response()

    site.pages["/repo.git/info/refs"] = hang
    async with Fetcher(tmp_path / "cache") as fetcher:
        task = asyncio.create_task(fetcher.resolve_git(GitSpec(f"{site.url}/repo.git")))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])
    release.set()
    assert task.cancelled()
    assert not children_of_this_process("git")


# -- what is refused


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c 'touch /tmp/owned'",
        "-oProxyCommand=sh",
        "--upload-pack=sh",
        "ssh://-oProxyCommand=sh/x",
        "ssh://host/-x",
        "fd::17",
        "git://host/repo",
        "/etc",
        "../repo",
        "https://",
        "https://host/re po",
        "https://host/re\npo",
        "",
    ],
)
async def test_a_url_that_is_no_plain_remote_is_refused(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(SpecError, match="no Git URL"):
        await fetcher.resolve_git(GitSpec(url))


async def test_a_local_repository_needs_permission(tmp_path: Path, repository: Repository) -> None:
    async with Fetcher(tmp_path / "cache") as fetcher:
        with pytest.raises(SpecError, match="no Git URL"):
            await fetcher.resolve_git(GitSpec(repository.url))


async def test_a_metadata_address_is_refused(fetcher: Fetcher) -> None:
    with pytest.raises(SourceError) as caught:
        await fetcher.resolve_git(GitSpec("http://169.254.169.254/repo.git"))
    assert caught.value.reason == "FetchRefused"


@pytest.mark.parametrize(
    "spec",
    [
        GitSpec("https://h/r", branch="--upload-pack=x"),
        GitSpec("https://h/r", branch="a..b"),
        GitSpec("https://h/r", tag="a b"),
        GitSpec("https://h/r", name="main"),
        GitSpec("https://h/r", commit="abc"),
        GitSpec("https://h/r", semver="nonsense"),
    ],
)
async def test_a_reference_that_is_none_is_refused_naming_its_field(fetcher: Fetcher, spec: GitSpec) -> None:
    with pytest.raises(SpecError, match=r"^ref\.(branch|tag|name|commit|semver): "):
        await fetcher.resolve_git(spec)


# -- SSH and the command itself


def test_ssh_gets_its_key_and_hosts_from_private_files_and_nothing_else(tmp_path: Path) -> None:
    account = Credentials(identity="KEY", known_hosts="host ssh-ed25519 AAAA")
    with access("git@host.example:org/repo", account, tmp_path, allow_file=False) as how:
        command = shlex.split(how.environment["GIT_SSH_COMMAND"])
        key = Path(command[command.index("-i") + 1])
        assert key.read_text() == "KEY\n"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
        assert "StrictHostKeyChecking=yes" in command
        assert "KEY" not in command
    assert not key.exists()


@pytest.mark.parametrize("missing", ["identity", "known_hosts"])
async def test_ssh_without_key_or_known_hosts_says_which(fetcher: Fetcher, missing: str) -> None:
    have = {"identity": "x", "known_hosts": "x"} | {missing: ""}
    with pytest.raises(SourceError, match=f"needs the key {missing}") as caught:
        await fetcher.resolve_git(GitSpec("git@host.example:org/repo.git"), Credentials(**have))
    assert caught.value.reason == "GitAuthFailed"


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("fatal: Authentication failed for 'https://u:p@host/x'", "GitAuthFailed"),
        ("fatal: could not read Username for 'https://host': terminal prompts disabled", "GitAuthFailed"),
        ("git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.", "GitAuthFailed"),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "GitAuthFailed"),
        ("fatal: unable to access 'https://host/': The requested URL returned error: 403", "GitAuthFailed"),
        ("fatal: unable to access 'https://host/': Could not resolve host: host", "GitUnreachable"),
        ("fatal: unable to access 'https://host/': SSL certificate problem: self-signed certificate", "GitUnreachable"),
        ("fatal: couldn't find remote ref refs/heads/x", "GitRefNotFound"),
        ("fatal: remote error: upload-pack: not our ref 1111", "GitRefNotFound"),
        ("remote: Repository not found.\nfatal: repository 'https://host/x/' not found", "GitUnreachable"),
        ("", "GitUnreachable"),
    ],
)
def test_what_git_says_becomes_a_reason_and_one_clean_line(stderr: str, reason: str) -> None:
    error = failure("https://host/x", Outcome(128, b"", stderr), Access(secrets=("p",)))
    assert error.reason == reason
    assert error.hint
    assert "\n" not in str(error)
    assert "u:p@" not in str(error)


async def test_git_runs_without_the_machines_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\nname = leaked\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/somewhere")
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    outcome = await Git().run("config", "--list", cwd=tmp_path, how=Access())
    assert "leaked" not in outcome.stdout.decode()
    assert "protocol.allow=never" in outcome.stdout.decode()
    assert "protocol.file.allow" not in outcome.stdout.decode()
