"""`make demo DEMO=once`, as a script runs it: to the end, with success, leaving nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.demo import stage

from .bed import unique

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def processes_naming(text: str) -> list[str]:
    """The command lines of running processes in which a text stands."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_the_demo_comes_up_and_leaves_nothing() -> None:
    name = unique("demo-test")
    command = [sys.executable, "-m", "testbed.demo", "once", "--name", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 10 layers are Ready" in done.stdout
    assert not stage.named(name).folder.exists()
    assert processes_naming(name) == []
