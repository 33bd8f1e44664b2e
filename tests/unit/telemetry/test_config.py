"""Settings: flags, variables, defaults, and what is refused."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from clusterstack.config import Settings, add_arguments, settings
from clusterstack.errors import SpecError


def read(*argv: str, **environ: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings(parser.parse_args(argv), {"CLUSTERSTACK_RENDERER": sys.executable, **environ})


def test_defaults_need_nothing_but_a_renderer() -> None:
    found = read(HOME="/home/me")
    assert (found.namespace, found.port, found.bind, found.lease, found.requests) == (
        "clusterstack",
        8080,
        "",
        True,
        32,
    )
    assert (found.kubeconfig, found.context, found.renderers, found.mirrors) == (None, None, None, ())
    assert found.cache.is_absolute()
    assert found.cache.name == "clusterstack"


def test_a_flag_wins_over_its_variable() -> None:
    assert read("--port", "1", CLUSTERSTACK_PORT="2").port == 1
    assert read(CLUSTERSTACK_PORT="2").port == 2
    assert read("--no-lease", CLUSTERSTACK_LEASE="true").lease is False
    assert read(CLUSTERSTACK_LEASE="false").lease is False
    assert read("--allow-file").allow_file is True
    assert read("--log-format", "text").log_json is False


def test_the_namespace_is_the_pod_s() -> None:
    assert read(POD_NAMESPACE="ops").namespace == "ops"
    assert read("-n", "mine", POD_NAMESPACE="ops").namespace == "mine"


def test_each_process_has_an_identity_of_its_own() -> None:
    first, second = read(POD_NAME="pod-0"), read(POD_NAME="pod-0")
    assert first.identity.startswith("pod-0_")
    assert first.identity != second.identity


def test_mirrors_are_pairs() -> None:
    given = read("--mirror", "https://a.example/=http://m/a", "--mirror", "oci://b=http://m/b")
    assert given.mirrors == (("https://a.example/", "http://m/a"), ("oci://b", "http://m/b"))
    assert read(CLUSTERSTACK_MIRRORS="https://a=http://m https://b=http://n").mirrors == (
        ("https://a", "http://m"),
        ("https://b", "http://n"),
    )


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("--port", "many"), "--port"),
        (("--port", "65536"), "--port"),
        (("--requests", "0"), "--requests"),
        (("--log-level", "loud"), "--log-level"),
        (("--log-format", "xml"), "--log-format"),
        (("--mirror", "here"), "--mirror"),
        (("--lease-duration", "-1"), "--lease-duration"),
        (("--lease-duration", "5"), "--renew-deadline"),
        (("--renderer", "/nowhere"), "--renderer"),
    ],
)
def test_what_makes_no_sense_is_named(argv: tuple[str, ...], named: str) -> None:
    with pytest.raises(SpecError, match=named) as caught:
        read(*argv)
    assert caught.value.hint


def test_a_variable_that_makes_no_sense_is_named() -> None:
    with pytest.raises(SpecError, match="--allow-file") as caught:
        read(CLUSTERSTACK_ALLOW_FILE="perhaps")
    assert "CLUSTERSTACK_ALLOW_FILE" in caught.value.hint


def test_a_missing_renderer_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SpecError, match="clusterstack-renderer") as caught:
        read(CLUSTERSTACK_RENDERER="")
    assert caught.value.reason == "RendererMissing"


def test_the_renderer_beside_python_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "clusterstack-renderer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert read(CLUSTERSTACK_RENDERER="").renderer == program
