"""Running git: an argument list in its own process group, without the machine's configuration, within a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from clusterstack.errors import SourceError
from clusterstack.sources.credentials import Credentials

_MAX_OUTPUT = 128 << 20
_MAX_STDERR = 1 << 16

# git asks for a user name and a password in two questions that name the host: another host (a redirect) gets no answer.
_ASKPASS = """#!/bin/sh
case "$1" in
  "Enter passphrase"*) printf '%s\\n' "$CLUSTERSTACK_GIT_PASSWORD" ;;
  *"//$CLUSTERSTACK_GIT_HOST'"*|*"@$CLUSTERSTACK_GIT_HOST'"*)
    case "$1" in
      Username*) printf '%s\\n' "$CLUSTERSTACK_GIT_USERNAME" ;;
      Password*) printf '%s\\n' "$CLUSTERSTACK_GIT_PASSWORD" ;;
      *) exit 1 ;;
    esac ;;
  *) exit 1 ;;
esac
"""

_CONFIG: tuple[tuple[str, str], ...] = (
    ("protocol.allow", "never"),
    ("protocol.https.allow", "always"),
    ("protocol.http.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("protocol.version", "2"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "false"),
    ("core.autocrlf", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("transfer.unpackLimit", "1"),  # every fetch is one pack, which is what the cache counts
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("http.followRedirects", "initial"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
    ("safe.directory", "*"),
)

# What git, curl and ssh say (in English: LC_ALL=C) → reason and next step.
_FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        r"Host key verification failed|No \S+ host key is known|REMOTE HOST IDENTIFICATION HAS CHANGED",
        "GitAuthFailed",
        "put the server's line of `ssh-keyscan` into the Secret's known_hosts, after checking it",
    ),
    (
        r"Permission denied \(|invalid format|incorrect passphrase",
        "GitAuthFailed",
        "does the account of the Secret's identity have read access?",
    ),
    (
        r"Authentication failed|could not read (Username|Password)|returned error: 40[13]|HTTP Basic: Access denied",
        "GitAuthFailed",
        "the source needs a Secret (username and password, or a token) that may read this repository",
    ),
    (
        r"couldn't find remote ref|not our ref|[Rr]emote did not send all necessary objects|unadvertised object",
        "GitRefNotFound",
        "check the branch, tag or commit",
    ),
    (
        r"[Rr]epository .*not found|returned error: 404|does not appear to be a git repository",
        "GitUnreachable",
        "check the URL; a private repository also looks like this without a Secret",
    ),
    (
        r"certificate|SSL",
        "GitUnreachable",
        "put the authority's certificate into the Secret's ca.crt",
    ),
)
_NOT_ALLOWED = re.compile(r"transport '[^']*' not allowed")


@dataclass(frozen=True, slots=True)
class Access:
    """How one remote is reached: configuration and environment for git, valid while the private directory exists."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    config: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@contextlib.contextmanager
def access(url: str, credentials: Credentials, scratch: Path, *, allow_file: bool) -> Iterator[Access]:
    """Credentials laid out for git in a 0700 directory and the environment: never on a command line."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        config = [("protocol.file.allow", "always")] if allow_file else []
        environment = {"HOME": name}
        parts = urlsplit(url)
        if "://" not in url or parts.scheme == "ssh":
            environment |= _ssh(folder, credentials)
        else:
            config += _https(folder, url, credentials)
        if credentials.password or credentials.username:
            askpass = _private(folder / "askpass", _ASKPASS, mode=0o700)
            environment |= {
                "GIT_ASKPASS": str(askpass),
                "SSH_ASKPASS": str(askpass),
                "SSH_ASKPASS_REQUIRE": "force",
                "CLUSTERSTACK_GIT_HOST": parts.netloc.rpartition("@")[2],
                "CLUSTERSTACK_GIT_USERNAME": credentials.username or "git",
                "CLUSTERSTACK_GIT_PASSWORD": credentials.password,
            }
        yield Access(environment, tuple(config), credentials.secrets())


def _https(folder: Path, url: str, credentials: Credentials) -> list[tuple[str, str]]:
    parts = urlsplit(url)
    scope = f"http.{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
    config: list[tuple[str, str]] = []
    if credentials.bearer:
        config.append((f"{scope}.extraHeader", f"Authorization: Bearer {credentials.bearer}"))
    if credentials.ca:
        config.append((f"{scope}.sslCAInfo", str(_private(folder / "ca.crt", credentials.ca))))
    if credentials.client_cert:
        config.append((f"{scope}.sslCert", str(_private(folder / "tls.crt", credentials.client_cert))))
        config.append((f"{scope}.sslKey", str(_private(folder / "tls.key", credentials.client_key))))
    return config


def _ssh(folder: Path, credentials: Credentials) -> dict[str, str]:
    if not credentials.identity or not credentials.known_hosts:
        missing = "identity" if not credentials.identity else "known_hosts"
        raise SourceError(
            f"Git over SSH needs the key {missing} in the Secret of the source",
            reason="GitAuthFailed",
            hint="the Secret holds identity (a private key) and known_hosts",
            retryable=False,
        )
    key = _private(folder / "identity", credentials.identity.rstrip("\n") + "\n")
    hosts = _private(folder / "known_hosts", credentials.known_hosts)
    options = (
        f"UserKnownHostsFile={shlex.quote(str(hosts))}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey", "ConnectTimeout=15",
        *(() if credentials.password else ("BatchMode=yes",)),
    )  # fmt: skip
    command = ["ssh", "-F", "/dev/null", "-i", str(key), *(word for option in options for word in ("-o", option))]
    return {"GIT_SSH_COMMAND": shlex.join(command), "GIT_SSH_VARIANT": "ssh"}


def _private(path: Path, text: str, *, mode: int = 0o600) -> Path:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a git process ended."""

    code: int
    stdout: bytes
    stderr: str


class Git:
    """The git command, a few at a time, each with a time limit for it and all its children."""

    def __init__(self, *, timeout: float = 60.0, parallel: int = 4) -> None:
        self._timeout = timeout
        self._slots = asyncio.Semaphore(parallel)

    async def run(
        self,
        *arguments: str,
        cwd: Path,
        how: Access,
        extra: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> Outcome:
        """Run it and say how it ended. Raises SourceError (GitTimeout, GitMissing)."""
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    "git", *arguments, cwd=cwd, env=_environment(cwd, how, extra or {}), start_new_session=True,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                )  # fmt: skip
            except FileNotFoundError:
                raise _not_started(cwd) from None
            try:
                async with asyncio.timeout(self._timeout):
                    return await _communicate(process, stdin)
            except TimeoutError:
                raise SourceError(
                    f"git {arguments[0]} had not finished after {self._timeout:g} s",
                    reason="GitTimeout",
                    hint="is the host reachable from the cluster, and the repository not too large?",
                ) from None
            finally:
                await _reap(process)


def _not_started(cwd: Path) -> SourceError:
    if cwd.is_dir():
        return SourceError("git is not installed here", reason="GitMissing", retryable=False)
    return SourceError("the cache directory was emptied while it was used", reason="CacheFailed")


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes) -> Outcome:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    out, err, _ = await asyncio.gather(
        _drain(process.stdout, _MAX_OUTPUT), _drain(process.stderr, _MAX_STDERR), _feed(process.stdin, stdin)
    )
    return Outcome(await process.wait(), out, err.decode(errors="replace"))


async def _drain(stream: asyncio.StreamReader, limit: int) -> bytes:
    """All of the stream; what is past the limit is read and dropped."""
    kept = bytearray()
    while chunk := await stream.read(1 << 16):
        kept += chunk[: limit - len(kept)]
    return bytes(kept)


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.close()
        await stream.wait_closed()


async def _reap(process: asyncio.subprocess.Process) -> None:
    """End the whole group and wait for it, also when this task is being cancelled."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        await asyncio.shield(process.wait())


def _environment(cwd: Path, how: Access, extra: Mapping[str, str]) -> dict[str, str]:
    config = _CONFIG + how.config
    numbered: dict[str, str] = {}
    for number, (key, value) in enumerate(config):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(cwd.parent),
        "GIT_CONFIG_COUNT": str(len(config)),
        **numbered,
        **how.environment,
        **extra,
    }


def failure(what: str, outcome: Outcome, how: Access) -> SourceError:
    """The error for a git process that failed: its own words in one line, without anything secret."""
    text = outcome.stderr
    for secret in how.secrets:
        text = text.replace(secret, "***")
    text = re.sub(r"(\w+://)[^/@\s']+@", r"\1", text)
    for pattern, reason, hint in _FAILURES:
        if match := re.search(pattern, text):
            line = next(line for line in text.splitlines() if match[0] in line)
            return SourceError(f"{what}: {_tidy(line)}", reason=reason, hint=hint)
    lines = [line for line in text.splitlines() if line.startswith(("fatal:", "error:", "ssh:"))] or text.splitlines()
    line = _tidy(lines[0]) if lines else f"git ended with {outcome.code} and no message"
    refused = _NOT_ALLOWED.search(text) is not None
    return SourceError(
        f"{what}: {line}",
        reason="GitUnreachable",
        hint="write an https or ssh URL" if refused else "is the host reachable from the cluster?",
        retryable=not refused,
    )


def _tidy(line: str) -> str:
    return re.sub(r"^(fatal|error|ssh|remote): ", "", re.sub(r"[^\x20-\x7e]", "?", line).strip())[:300]
