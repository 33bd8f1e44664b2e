"""Builds tool families and keeps the results; see the package's docstring."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from testbed.tools import go as toolchain
from testbed.tools.catalogue import Family, family_of
from testbed.tools.go import BuildError

_PROGRESS_SECONDS = 10.0
_KEPT_VERSIONS = 4


class NotThereError(BuildError):
    """The program's source is not in this tree."""


def cache_root() -> Path:
    """The folder for everything that is built once: `$CLUSTERSTACK_CACHE`, else the user's cache folder."""
    if own := os.environ.get("CLUSTERSTACK_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "clusterstack"


@lru_cache(maxsize=1)
def _go(cache: Path) -> tuple[Path, str]:
    with _locked(cache / "go.lock"):
        path = toolchain.find(cache)
    return path, toolchain.version(path)


def _sources(family: Family) -> list[Path]:
    files = [family.module / "go.mod", family.module / "go.sum"]
    if family.own:
        files += sorted(p for p in family.module.rglob("*.go") if not p.name.endswith("_test.go"))
    return files


def _digest(family: Family, go_version: str) -> str:
    digest = hashlib.sha256("\n".join((go_version, *family.ldflags, *map(str, family.packages))).encode())
    for path in _sources(family):
        if path.exists():
            content = path.read_bytes()
            digest.update(f"\0{path.relative_to(family.module)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _place(family: Family) -> Path:
    if not (family.module / "go.mod").exists() or (family.own and not any(family.module.glob("*.go"))):
        raise NotThereError(f"{family.name}: there is no Go program in {family.module}")
    _, go_version = _go(cache_root())
    return cache_root() / "tools" / f"{family.name}-{_digest(family, go_version)}"


def is_built(family: Family) -> bool:
    """Whether every binary of this very version is in the cache."""
    place = _place(family)
    return all((place / "bin" / name).exists() for name in family.binaries)


def binary(name: str) -> Path:
    """The path of the tool `name` (`kube-apiserver`, `helm`, …), building its family first if it is not in the cache.

    Raises KeyError for a tool nobody knows, NotThereError when its source is missing, BuildError when a build fails.
    """
    return build(family_of(name)) / name


def build(family: Family) -> Path:
    """The folder of a family's binaries, built unless it is there. Two processes never build the same one."""
    place = _place(family)
    if is_built(family):
        return place / "bin"
    with _locked(place.with_suffix(".lock")):
        if not is_built(family):
            _build_into(place, family)
            _drop_old(place, family)
    return place / "bin"


def _build_into(place: Path, family: Family) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{family.name}-", dir=place.parent))
    try:
        (scratch / "bin").mkdir()
        _compile(family, scratch / "bin")
        if place.exists():  # an incomplete leftover: nothing complete is ever replaced
            shutil.rmtree(place)
        scratch.chmod(0o755)
        scratch.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _compile(family: Family, out: Path) -> None:
    go, _ = _go(cache_root())
    command: list[str | Path] = [go, "build", "-v", "-trimpath", "-ldflags", " ".join(("-s", "-w", *family.ldflags))]
    if len(family.packages) == 1:
        command += ["-o", out / family.binaries[0], family.packages[0][1]]
    else:
        command += ["-o", f"{out}{os.sep}", *(package for _, package in family.packages)]
    started = time.monotonic()
    print(f"building {family.name} ({', '.join(family.binaries)})", flush=True)
    with subprocess.Popen(
        command, cwd=family.module, env=toolchain.environment(go), stderr=subprocess.PIPE, text=True
    ) as process:
        tail = _follow(process, family.name, started)
    if process.returncode:
        raise BuildError(f"building {family.name} failed:\n" + "\n".join(tail))
    missing = [name for name in family.binaries if not (out / name).exists()]
    if missing:
        raise BuildError(f"building {family.name} made no {', '.join(missing)}")
    print(f"built {family.name} in {time.monotonic() - started:.0f} s", flush=True)


def _follow(process: subprocess.Popen[str], name: str, started: float) -> list[str]:
    """Prints a line of progress every ten seconds until the build ends; returns the last lines that Go printed."""
    assert process.stderr is not None
    lines: list[str] = []
    done = threading.Event()

    def report() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            now = f", now {lines[-1]}" if lines else ""
            print(f"  {name}: {time.monotonic() - started:.0f} s, {len(lines)} packages{now}", flush=True)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        lines.extend(line.rstrip() for line in process.stderr)
    finally:
        done.set()
        reporter.join()
    return lines[-30:]


def _drop_old(place: Path, family: Family) -> None:
    """Keeps the newest few versions of a program that is edited here; a tool's versions change rarely and all stay."""
    if not family.own:
        return
    versions = [p for p in place.parent.glob(f"{family.name}-*") if p.is_dir()]
    versions.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for old in versions[_KEPT_VERSIONS:]:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
