"""Reading Kubernetes objects from files and standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterstack.cli.output import MISSING, USAGE, CliError
from clusterstack.core.objects import Manifest


def read_text(name: str) -> str:
    """The text of a file, or of stdin for `-`. Raises CliError."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CliError(f"{name} cannot be read: {reason}", code=MISSING) from error


def read_objects(name: str) -> list[Manifest]:
    """The objects of a YAML or JSON stream, Lists expanded. Raises CliError and RenderError `InvalidYAML`."""
    from clusterstack.core.yaml import load_all

    text, source = read_text(name), "stdin" if name == "-" else name
    if not text.lstrip().startswith("{"):
        return load_all(text, source=source)
    return [found for document in _json(text, source) for found in _expanded(document, source)]


def _json(text: str, source: str) -> Iterator[Any]:
    """The values of a JSON stream, whatever stands between them: `kubectl get -o json`, or one object a line."""
    decoder = json.JSONDecoder()
    position = _next(text, 0)
    while position < len(text):
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise CliError(f"{source}: line {error.lineno}: no JSON: {error.msg}", code=USAGE) from error
        yield value
        position = _next(text, end)


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _expanded(document: Any, source: str) -> Iterator[Manifest]:
    if not isinstance(document, dict) or not document.get("apiVersion") or not document.get("kind"):
        raise CliError(f"{source}: an object without apiVersion and kind", code=USAGE)
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _expanded(item, source)
    else:
        yield document
