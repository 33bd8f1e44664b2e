"""What the operator's process is told: flags, and environment variables for each of them.

A flag wins over its variable, the variable over the default. Stacks have settings of their own, in their spec.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterstack.errors import SpecError

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LEVELS = ("debug", "info", "warning", "error")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process; durations are seconds, paths absolute."""

    kubeconfig: str | None
    """None: $KUBECONFIG, the Pod's own account, or ~/.kube/config."""
    context: str | None
    namespace: str
    """Of the Lease, the inventories and the Secrets of sources."""
    identity: str
    """The Lease's holder: this process and no other."""
    bind: str = ""
    port: int = 8080
    cache: Path
    renderer: Path
    log_level: str = "info"
    log_json: bool = True
    mirrors: tuple[tuple[str, str], ...] = ()
    """Prefixes of addresses and what to fetch from instead; the longest match wins."""
    allow_file: bool = False
    lease: bool = True
    lease_name: str = "clusterstack"
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    requests: int = 32
    renderers: int | None = None
    """None: one per core."""
    selector: str = ""
    """Labels of the ClusterStacks that this process serves; empty: all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags. Their defaults come later, from the environment."""
    cluster = parser.add_argument_group("cluster")
    _add(cluster, "--namespace", "NAMESPACE", "of the Lease, the inventories and the sources' Secrets", short="-n")
    _add(cluster, "--kubeconfig", "FILE", "default: $KUBECONFIG, the Pod's account, ~/.kube/config")
    _add(cluster, "--context", "NAME", "context of the kubeconfig")
    _add(
        cluster,
        "--selector",
        "LABELS",
        "serve only ClusterStacks with these labels, as kubectl's -l; shards need a --lease-name each",
        short="-l",
    )
    work = parser.add_argument_group("work")
    _add(work, "--cache", "DIR", "what was fetched; may be deleted at any time (default: ~/.cache/clusterstack)")
    _add(work, "--renderer", "FILE", "the clusterstack-renderer (default: beside Python, then in PATH)")
    _add(work, "--renderers", "N", "renderer processes (default: one per core)")
    _add(work, "--requests", "N", "requests to the API server at one time (default: 32)")
    work.add_argument(
        "--mirror",
        metavar="FROM=TO",
        action="append",
        help="fetch from TO what stands below FROM; may be repeated, the longest match wins "
        "[CLUSTERSTACK_MIRRORS, separated by spaces]",
    )
    _flag(work, "--allow-file", "allow sources with file:// addresses")
    server = parser.add_argument_group("server and logs")
    _add(server, "--bind", "ADDRESS", "address of /metrics, /healthz and /readyz (default: every interface)")
    _add(server, "--port", "PORT", "their port; 0 takes a free one (default: 8080)")
    _add(server, "--log-level", "LEVEL", f"{', '.join(_LEVELS)} (default: info)")
    _add(server, "--log-format", "FORMAT", "json, text, or auto: text on a terminal (default: auto)")
    lease = parser.add_argument_group("lease")
    _flag(lease, "--lease", "let only the holder of a Lease work (default: on)")
    _add(lease, "--lease-name", "NAME", "name of the Lease (default: clusterstack)")
    _add(lease, "--lease-duration", "SECONDS", "a holder that is silent for this long has lost it (default: 15)")
    _add(lease, "--renew-deadline", "SECONDS", "without a renewal for this long, stop (default: 10)")
    _add(lease, "--retry-period", "SECONDS", "between renewals (default: 2)")


def settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Read flags and variables. Raises SpecError naming the flag that makes no sense."""
    given = _Given(arguments, environ)
    duration, deadline = given.seconds("lease_duration", 15.0), given.seconds("renew_deadline", 10.0)
    period = given.seconds("retry_period", 2.0)
    if not duration > deadline > period:
        raise SpecError(
            f"--lease-duration ({duration:g}) must exceed --renew-deadline ({deadline:g}), "
            f"and that must exceed --retry-period ({period:g})",
            hint="leave all three alone unless the API server is very slow",
        )
    renderers = given.whole("renderers", 0, least=0)
    return Settings(
        kubeconfig=given.text("kubeconfig") or None,
        context=given.text("context") or None,
        namespace=given.text("namespace") or _namespace(environ),
        identity=f"{environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}",
        bind=given.text("bind"),
        port=given.whole("port", 8080, least=0, most=65535),
        cache=Path(given.text("cache") or _cache(environ)).expanduser().absolute(),
        renderer=_renderer(given.text("renderer")),
        log_level=given.choice("log_level", "info", _LEVELS),
        log_json=_is_json(given.choice("log_format", "auto", ("auto", "json", "text"))),
        mirrors=_mirrors(arguments.mirror or environ.get("CLUSTERSTACK_MIRRORS", "").split()),
        allow_file=given.truth("allow_file", default=False),
        lease=given.truth("lease", default=True),
        lease_name=given.text("lease_name") or "clusterstack",
        lease_duration=duration,
        renew_deadline=deadline,
        retry_period=period,
        requests=given.whole("requests", 32, least=1),
        renderers=renderers or None,
        selector=given.text("selector"),
    )


def _add(group: Any, flag: str, metavar: str, text: str, *, short: str = "") -> None:
    names = (short, flag) if short else (flag,)
    group.add_argument(*names, metavar=metavar, help=f"{text} [{_variable(flag)}]")


def _flag(group: Any, flag: str, text: str) -> None:
    action = argparse.BooleanOptionalAction
    group.add_argument(flag, action=action, default=None, help=f"{text} [{_variable(flag)}]")


def _variable(flag: str) -> str:
    return "CLUSTERSTACK_" + flag.lstrip("-").replace("-", "_").upper()


class _Given:
    """A value as it was given: the flag's, else the variable's."""

    def __init__(self, arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._arguments, self._environ = arguments, environ

    def text(self, name: str) -> str:
        given = getattr(self._arguments, name)
        return str(given if given is not None else self._environ.get(_variable(name), ""))

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self.text(name).lower() or default
        if text not in choices:
            raise _wrong(name, text, f"one of {', '.join(choices)}")
        return text

    def whole(self, name: str, default: int, *, least: int, most: int = 1_000_000) -> int:
        text = self.text(name)
        if not text:
            return default
        if not text.isdecimal() or not least <= int(text) <= most:
            raise _wrong(name, text, f"a number from {least} to {most}")
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name).removesuffix("s")
        try:
            seconds = float(text) if text else default
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise _wrong(name, text, "a number of seconds above zero")
        return seconds

    def truth(self, name: str, *, default: bool) -> bool:
        given = getattr(self._arguments, name)
        if given is not None:
            return bool(given)
        text = self._environ.get(_variable(name))
        if text is None:
            return default
        if text.lower() not in (*_TRUE, *_FALSE):
            raise _wrong(name, text, "true or false")
        return text.lower() in _TRUE


def _wrong(name: str, text: str, expected: str) -> SpecError:
    flag = "--" + name.replace("_", "-")
    return SpecError(f"{flag} is {text!r}, not {expected}", hint=f"correct {flag} or {_variable(name)}")


def _namespace(environ: Mapping[str, str]) -> str:
    if environ.get("POD_NAMESPACE"):
        return environ["POD_NAMESPACE"]
    try:
        return _POD_NAMESPACE.read_text().strip() or "clusterstack"
    except OSError:
        return "clusterstack"


def _cache(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "clusterstack"


def _is_json(log_format: str) -> bool:
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


def _renderer(given: str) -> Path:
    if given:
        path = Path(given).expanduser().absolute()
        if os.access(path, os.X_OK) and path.is_file():
            return path
        state = "cannot be executed" if path.exists() else "does not exist"
        raise SpecError(
            f"--renderer {path} {state}", reason="RendererMissing", hint="build it from renderer/ with go build"
        )
    name = "clusterstack-renderer"
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise SpecError(
            f"no {name} beside {sys.executable} nor in PATH",
            reason="RendererMissing",
            hint="build it from renderer/ with go build, and name it with --renderer or CLUSTERSTACK_RENDERER",
        )
    return Path(found).absolute()


def _mirrors(texts: list[str]) -> tuple[tuple[str, str], ...]:
    rules: list[tuple[str, str]] = []
    for text in texts:
        origin, separator, target = text.partition("=")
        if not (separator and "://" in origin and "://" in target):
            raise SpecError(
                f"--mirror {text!r} is not FROM=TO with two addresses",
                hint="for example --mirror https://charts.jetstack.io=http://mirror.lan/charts.jetstack.io",
            )
        rules.append((origin, target))
    return tuple(rules)
