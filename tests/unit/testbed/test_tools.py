"""The cache of built tools."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from testbed import build as command
from testbed import tools
from testbed.tools import builder
from testbed.tools import go as toolchain

FAKE_GO = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$1 $2" in
  "env GOVERSION") echo go1.26.1; exit 0 ;;
esac
out=
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then out=$2; fi; shift; done
if [ -n "$BROKEN" ]; then echo "main.go:1: it does not compile" >&2; exit 1; fi
echo program > "$out"
"""


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tools.Family:
    """A family in a module of its own, with a `go` that only notes how it was called."""
    module, bin_folder = tmp_path / "module", tmp_path / "bin"
    module.mkdir()
    bin_folder.mkdir()
    (module / "go.mod").write_text("module example.org/tool\n")
    (module / "main.go").write_text("package main\n")
    (bin_folder / "go").write_text(FAKE_GO)
    (bin_folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("CLUSTERSTACK_CACHE", str(tmp_path / "cache"))
    builder._go.cache_clear()
    return tools.Family("tool", module, (("tool", "."),), own=True)


@pytest.fixture(autouse=True)
def _forget_the_fake_go() -> object:
    yield
    builder._go.cache_clear()


def builds(tmp_path: Path) -> int:
    return sum(line.startswith("build ") for line in (tmp_path / "calls").read_text().splitlines())


def test_a_tool_is_built_once(family: tools.Family, tmp_path: Path) -> None:
    first = tools.build(family)
    assert (first / "tool").read_text() == "program\n"
    assert tools.build(family) == first
    assert builds(tmp_path) == 1


def test_a_change_of_the_source_builds_anew(family: tools.Family, tmp_path: Path) -> None:
    first = tools.build(family)
    (family.module / "main.go").write_text("package main // changed\n")
    assert tools.build(family) != first
    assert builds(tmp_path) == 2


def test_a_change_of_a_test_does_not_build_anew(family: tools.Family, tmp_path: Path) -> None:
    tools.build(family)
    (family.module / "main_test.go").write_text("package main\n")
    tools.build(family)
    assert builds(tmp_path) == 1


def test_builds_at_the_same_time_build_once(family: tools.Family, tmp_path: Path) -> None:
    threads = [threading.Thread(target=tools.build, args=(family,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds(tmp_path) == 1


def test_a_failed_build_shows_the_compiler_and_leaves_nothing(
    family: tools.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(tools.BuildError, match="it does not compile"):
        tools.build(family)
    assert not tools.is_built(family)
    assert [p.name for p in (tools.cache_root() / "tools").iterdir() if p.is_dir()] == []


def test_a_missing_program_is_named(family: tools.Family) -> None:
    (family.module / "main.go").unlink()
    with pytest.raises(tools.NotThereError, match=r"tool: there is no Go program in"):
        tools.build(family)


def test_a_toolchain_that_is_too_old_is_not_used(tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go1.25.9\n")
    old.chmod(0o755)
    assert not toolchain._new_enough(old)
    assert not toolchain._new_enough(tmp_path / "nothing")


def test_an_unknown_tool_is_answered_with_what_there_is() -> None:
    with pytest.raises(KeyError, match=r"no tool 'kubctl'; there are .*kubectl"):
        tools.family_of("kubctl")
    assert command.main(["--only", "kubctl"]) == 2


def test_every_family_has_its_module_and_names_each_binary_once() -> None:
    names = [name for family in tools.FAMILIES for name in family.binaries]
    assert len(names) == len(set(names))
    for family in tools.FAMILIES:
        assert (family.module / "go.mod").exists(), family.name
        assert (family.module / "go.sum").exists(), family.name
