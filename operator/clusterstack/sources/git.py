"""Git repositories: a reference → a commit → an immutable directory, with git's own hash of every path in it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from clusterstack.errors import SourceError, SpecError
from clusterstack.helm.versions import Constraint, newest
from clusterstack.sources.client import displayed
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.gitcommand import Access, Git, Outcome, access, failure
from clusterstack.sources.guard import check_url
from clusterstack.sources.mirrors import as_url
from clusterstack.sources.snapshot import Snapshot
from clusterstack.sources.store import Store, Tree

_MAX_FILES = 200_000
_MAX_BYTES = 1 << 30
_MAX_PACKS = 64
_HEX = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"(?!-)(?!.*(?:\.\.|//|@\{|[\x00-\x20~^:?*\[\\\x7f]|/\.|\.lock$|\.$|/$)).+")

# Flux's default exclusions (VCS and CI files), less its pictures and archives, which builds may well refer to.
_IGNORED = """\
.git/
.gitignore
.gitmodules
.gitattributes
.github/
.circleci/
.travis.yml
.gitlab-ci.yml
appveyor.yml
.drone.yml
cloudbuild.yaml
codeship-services.yml
codeship-steps.yml
.goreleaser.yml
.goreleaser.brew.yml
.sops.yaml
.flux.yaml
"""


@dataclass(frozen=True, slots=True)
class GitSpec:
    """Which commit of which repository: commit, else name, else semver over tags, else tag, else branch (`master`).

    A branch beside a commit is only shown. `ignore` holds patterns as in .gitignore, on top of the repository's own
    .sourceignore files.
    """

    url: str
    branch: str = ""
    tag: str = ""
    semver: str = ""
    name: str = ""
    commit: str = ""
    ignore: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit and the name it was found by; `str()` is Flux's form `master@sha1:<40 hex>`."""

    ref: str
    commit: str

    def __str__(self) -> str:
        return f"{self.ref}@sha1:{self.commit}" if self.ref else f"sha1:{self.commit}"

    @property
    def short(self) -> str:
        """For people: `master@9f3c2ab`."""
        return f"{self.ref}@{self.commit[:7]}" if self.ref else self.commit[:7]


class GitSource:
    """Fetches repositories with the git command, one shallow commit at a time, into the cache."""

    def __init__(self, store: Store, *, allow_file: bool = False, timeout: float = 60.0) -> None:
        self._store = store
        self._git = Git(timeout=timeout)
        self._allow_file = allow_file

    async def resolve(self, spec: GitSpec, url: str, credentials: Credentials) -> Revision:
        """Ask the remote at `url` (the spec's, or its mirror) which commit the spec means now.

        Raises SpecError, SourceError (GitAuthFailed, GitRefNotFound, GitUnreachable, GitTimeout).
        """
        check_spec(spec)
        url, credentials = self._remote(url, credentials)
        if spec.commit:
            return Revision(spec.branch, spec.commit)
        if spec.semver and not spec.name:
            return await self._newest_tag(spec, url, credentials)
        shown, name = _wanted(spec)
        found = await self._ls_remote(url, credentials, name)
        commit = found.get(f"{name}^{{}}") or found.get(name)  # an annotated tag is shown with the commit it points at
        if commit is None:
            raise _no_ref(shown, url)
        return Revision(shown, commit)

    async def fetch(self, spec: GitSpec, revision: Revision, url: str, credentials: Credentials) -> Snapshot:
        """The content of the revision, as a directory of the cache; fetched once. Raises like `resolve`."""
        check_spec(spec)
        url, credentials = self._remote(url, credentials)
        scope = hashlib.sha256(f"{url}\0{spec.ignore}".encode()).hexdigest()[:16]
        key = f"git-{revision.commit}-{scope}"
        tree = await self._store.tree(key)
        if tree is None:
            with self._access(url, credentials) as how:
                tree = await self._checkout(key, spec, revision, url, how)
        return Snapshot(tree.path, str(revision), tree.meta["trees"], tuple(tree.meta["skipped"]))

    # -- asking

    async def _newest_tag(self, spec: GitSpec, url: str, credentials: Credentials) -> Revision:
        found = await self._ls_remote(url, credentials, "refs/tags/*")
        tags = {name.removeprefix("refs/tags/").removesuffix("^{}") for name in found}
        tag = newest(sorted(tags), spec.semver)
        if tag is None:
            raise _no_ref(f"tag that satisfies {spec.semver}", url)
        return Revision(tag, found.get(f"refs/tags/{tag}^{{}}") or found[f"refs/tags/{tag}"])

    async def _ls_remote(self, url: str, credentials: Credentials, name: str) -> dict[str, str]:
        """The remote's references of this name → their hashes."""
        with self._access(url, credentials) as how:
            outcome = await self._git.run(
                "ls-remote", "--", url, name, f"{name}^{{}}", cwd=self._store.scratch(), how=how
            )
        if outcome.code:
            raise failure(displayed(as_url(url)), outcome, how)
        lines = (line.split("\t") for line in outcome.stdout.decode(errors="replace").splitlines())
        return {line[1]: line[0] for line in lines if len(line) == 2 and _HEX.fullmatch(line[0])}

    # -- fetching

    async def _checkout(self, key: str, spec: GitSpec, revision: Revision, url: str, how: Access) -> Tree:
        repository = self._store.repository(url)
        async with self._store.lock(repository.name):
            await self._prepare(repository, how)
            if not await self._has(repository, revision, how):
                await self._download(repository, spec, revision, url, how)

            async def build(content: Path) -> dict[str, Any]:
                return await self._lay_out(repository, spec, revision, content, how)

            try:
                return await self._store.build_tree(key, build)
            except SourceError as error:
                if error.reason == "GitUnreachable":  # the local copy is damaged: the next try starts without it
                    await self._store.forget(repository)
                raise

    async def _prepare(self, repository: Path, how: Access) -> None:
        """An empty or usable bare repository; one that has grown over many fetches starts again."""
        packs = await asyncio.to_thread(lambda: len(list((repository / "objects" / "pack").glob("*.pack"))))
        if packs > _MAX_PACKS:
            await self._store.forget(repository)
        if not (repository / "FETCHED").exists():
            await self._store.forget(repository)
            await asyncio.to_thread(repository.mkdir, parents=True, exist_ok=True)
            await self._must("init", "--quiet", "--bare", "--template=", cwd=repository, how=how)
            # Files are laid out byte for byte: attributes in the repository may not convert or filter them.
            await asyncio.to_thread((repository / "info").mkdir, exist_ok=True)
            await asyncio.to_thread(
                (repository / "info" / "attributes").write_text, "* -text -ident -filter -working-tree-encoding\n"
            )
        await asyncio.to_thread((repository / "FETCHED").touch)

    async def _has(self, repository: Path, revision: Revision, how: Access) -> bool:
        outcome = await self._git.run("cat-file", "-e", f"{revision.commit}^{{tree}}", cwd=repository, how=how)
        return outcome.code == 0

    async def _download(self, repository: Path, spec: GitSpec, revision: Revision, url: str, how: Access) -> None:
        """The commit alone; where a server hands out only references, what the reference has."""
        outcome = await self._fetch_into(repository, url, revision.commit, how)
        if outcome.code == 0 and await self._has(repository, revision, how):
            return
        first = failure(displayed(as_url(url)), outcome, how)
        if first.reason != "GitRefNotFound":
            raise first
        _, name = _wanted(replace(spec, tag=revision.ref) if spec.semver else spec)
        for depth in ("--depth=1", "--depth=2147483647"):
            outcome = await self._fetch_into(repository, url, name, how, depth=depth)
            if outcome.code:
                raise failure(displayed(as_url(url)), outcome, how)
            if await self._has(repository, revision, how):
                return
        raise SourceError(
            f"{displayed(as_url(url))} has no commit {revision.commit} on {name}",
            reason="GitRefNotFound",
            hint="was it pushed, and not replaced by a forced push?",
        )

    async def _fetch_into(
        self, repository: Path, url: str, what: str, how: Access, *, depth: str = "--depth=1"
    ) -> Outcome:
        refspec = f"+{what}:refs/clusterstack/last"  # kept, so that the next fetch downloads only the difference
        return await self._git.run(
            "fetch", "--quiet", depth, "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--no-auto-maintenance", "--", url, refspec, cwd=repository, how=how,
        )  # fmt: skip

    async def _lay_out(
        self, repository: Path, spec: GitSpec, revision: Revision, content: Path, how: Access
    ) -> dict[str, Any]:
        """Write the commit's files into an empty directory; returns every directory's hash and what was left out."""
        commit = revision.commit
        root = (await self._must("rev-parse", f"{commit}^{{tree}}", cwd=repository, how=how)).decode().strip()
        listing = await self._must("ls-tree", "-r", "-t", "-l", "-z", commit, cwd=repository, how=how)
        trees, files, skipped = _listed(listing, revision)
        index = content.parent / "index"
        place = {"GIT_DIR": str(repository), "GIT_WORK_TREE": str(content), "GIT_INDEX_FILE": str(index)}
        await self._must("read-tree", commit, cwd=content, how=how, extra=place)
        await self._must(
            "checkout-index", "--force", "--quiet", "-z", "--stdin", cwd=content, how=how, extra=place,
            stdin=b"".join(name + b"\0" for name in files),
        )  # fmt: skip
        await self._drop_ignored(content, spec, how, place)
        await asyncio.to_thread(index.unlink, missing_ok=True)
        return {"trees": {"": root, **trees}, "skipped": skipped}

    async def _drop_ignored(self, content: Path, spec: GitSpec, how: Access, place: dict[str, str]) -> None:
        defaults = content.parent / "ignore"
        await asyncio.to_thread(defaults.write_text, _IGNORED)
        own = [f"--exclude={line}" for line in spec.ignore.splitlines() if line.strip() and not line.startswith("#")]
        ignored = await self._must(
            "ls-files", "-z", "--cached", "--ignored", "--exclude-per-directory=.sourceignore",
            f"--exclude-from={defaults}", *own, cwd=content, how=how, extra=place,
        )  # fmt: skip
        await asyncio.to_thread(_unlink_all, content, ignored)
        await asyncio.to_thread(defaults.unlink, missing_ok=True)

    async def _must(
        self, *arguments: str, cwd: Path, how: Access, extra: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> bytes:
        outcome = await self._git.run(*arguments, cwd=cwd, how=how, extra=extra, stdin=stdin)
        if outcome.code:
            raise failure(f"git {arguments[0]}", outcome, how)
        return outcome.stdout

    # -- the remote

    def _access(self, url: str, credentials: Credentials) -> contextlib.AbstractContextManager[Access]:
        return access(url, credentials, self._store.scratch(), allow_file=self._allow_file)

    def _remote(self, url: str, credentials: Credentials) -> tuple[str, Credentials]:
        """The URL without a password in it (which git would get on its command line), and who asks."""
        check_git_url(url, allow_file=self._allow_file)
        parts = urlsplit(url)
        if "://" in url and parts.password is not None:
            if not credentials.password and not credentials.bearer:
                credentials = replace(
                    credentials, username=unquote(parts.username or ""), password=unquote(parts.password)
                )
            url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return url, credentials


def check_git_url(url: str, *, allow_file: bool) -> None:
    """Refuse a URL that is none, or that would make git do anything but fetch. Raises SpecError."""
    whole = as_url(url)
    parts = urlsplit(whole)
    schemes = ("https", "http", "ssh", "file") if allow_file else ("https", "http", "ssh")
    host = parts.hostname or ""
    if (
        parts.scheme not in schemes
        or re.search(r"[\x00-\x20\x7f]", url)
        or url.startswith("-")
        or (parts.scheme == "file") == bool(host)
        or host.startswith("-")
        or parts.path.startswith("/-")
        or (parts.username or "").startswith("-")
    ):
        shown = displayed(whole) if host else url[:200]
        raise SpecError(
            f"{shown!r} is no Git URL that is fetched from",
            hint="write https://host/path, ssh://git@host/path or git@host:path",
        )
    if host:
        check_url(whole)


def check_spec(spec: GitSpec) -> None:
    """Refuse reference names that git would refuse or misread. Raises SpecError naming the field."""
    for label in ("branch", "tag", "name"):
        value = getattr(spec, label)
        if value and not _REF.fullmatch(value):
            raise SpecError(f"ref.{label}: {value!r} is no name of a Git reference")
    if spec.name and not spec.name.startswith("refs/"):
        raise SpecError(f"ref.name: {spec.name!r} is not written in full", hint="write it like refs/heads/main")
    if spec.commit and not _HEX.fullmatch(spec.commit):
        raise SpecError(
            f"ref.commit: {spec.commit!r} is no commit", hint="write all 40 hexadecimal digits, in small letters"
        )
    try:
        Constraint.parse(spec.semver)
    except ValueError as error:
        raise SpecError(f"ref.semver: {error}") from None


def _wanted(spec: GitSpec) -> tuple[str, str]:
    """What is shown for the reference, and its full name."""
    if spec.name:
        return spec.name, spec.name
    if spec.tag:
        return spec.tag, f"refs/tags/{spec.tag}"
    branch = spec.branch or "master"
    return branch, f"refs/heads/{branch}"


def _no_ref(what: str, url: str) -> SourceError:
    return SourceError(
        f"{displayed(as_url(url))} has no {what}", reason="GitRefNotFound", hint="check the branch, tag or commit"
    )


def _listed(listing: bytes, revision: Revision) -> tuple[dict[str, str], list[bytes], list[str]]:
    """Directories with their hashes, files to write, and links and submodules; bounded in number and size."""
    trees: dict[str, str] = {}
    files: list[bytes] = []
    skipped: list[str] = []
    total = 0
    for line in filter(None, listing.split(b"\0")):
        head, _, name = line.partition(b"\t")
        mode, kind, digest, size = head.decode().split()
        path = name.decode(errors="surrogateescape")
        if kind == "tree":
            trees[path] = digest
        elif kind == "blob" and mode != "120000":
            files.append(name)
            total += int(size)
        else:
            skipped.append(path)
    if len(files) > _MAX_FILES or total > _MAX_BYTES:
        raise SourceError(
            f"{revision.short} has {len(files)} files of {total >> 20} MiB; "
            f"the limits are {_MAX_FILES} files and {_MAX_BYTES >> 20} MiB",
            reason="SnapshotTooLarge",
            retryable=False,
        )
    return trees, files, skipped


def _unlink_all(content: Path, names: bytes) -> None:
    for name in filter(None, names.split(b"\0")):
        (content / name.decode(errors="surrogateescape")).unlink(missing_ok=True)
