"""The CustomResourceDefinitions in the homelab data set: in its charts, remote files, repository and OLM bundles."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_KIND = re.compile(r"""^kind: ["']?CustomResourceDefinition["']?\s*$""", re.MULTILINE)
_SEPARATOR = re.compile(r"^---.*$", re.MULTILINE)


def definitions(data: Path, *names: str) -> dict[str, dict[str, Any]]:
    """The definitions by name (`kafkas.kafka.strimzi.io`): those of `names`, or all of the data set at `data`.

    Of several with the same name the first in the order of the paths counts. Conversion webhooks are left out: nobody
    answers for them. Raises LookupError, naming it, for a name that the data set does not have.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in _documents(data):
        if names and not any(name in text for name in names):
            continue  # parsing is what takes the time
        crd = yaml.load(text, yaml.CSafeLoader)  # the C version of the safe loader
        if not names or crd["metadata"]["name"] in names:
            crd["spec"].pop("conversion", None)
            found.setdefault(crd["metadata"]["name"], crd)
    if missing := set(names) - found.keys():
        raise LookupError(f"there is no CustomResourceDefinition {', '.join(sorted(missing))} in {data}")
    return found


def _documents(data: Path) -> Iterator[str]:
    """Every YAML document that holds one definition."""
    for text in _files(data):
        if _KIND.search(text):
            yield from (document for document in _SEPARATOR.split(text) if _KIND.search(document))


def _files(data: Path) -> Iterator[str]:
    for path in sorted(data.rglob("*")):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            yield path.read_text()
        elif path.suffix == ".tgz":
            with tarfile.open(path) as chart:
                for member in chart:
                    content = chart.extractfile(member) if member.name.endswith((".yaml", ".yml")) else None
                    if content is not None:
                        yield content.read().decode()
