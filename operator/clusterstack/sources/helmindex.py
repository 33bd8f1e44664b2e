"""Reading a Helm repository's index without holding it: only the wanted chart's entries are ever parsed.

Indexes have tens of megabytes; as Python objects they would take gigabytes. `helm repo index` writes plain block YAML
with one key per chart, so the lines of one chart can be cut out. Anything written differently is parsed whole, once.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusterstack.errors import ChartError

SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ENTRIES = re.compile(rb"^entries:[ \t]*(?:#[^\n]*)?\r?\n", re.MULTILINE)
_CHART_KEY = re.compile(rb"""^( +)(?:"([^"\n]+)"|'([^'\n]+)'|([^\s"'#-][^\n:]*)):[ \t]*\r?\n""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a chart in an index; `digest` is `sha256:<hex>`, or empty where the index has none."""

    version: str
    urls: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The versions of one chart; without any, `charts` names what the repository has instead (a few)."""

    entries: tuple[Entry, ...]
    charts: tuple[str, ...] = ()


def read_entries(path: Path, chart: str) -> Listing:
    """The entries of one chart in an index file. Raises ChartError when the file is no index."""
    if not path.stat().st_size:
        raise _no_index("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = _cut(text, chart)
        if found is None:
            found = _whole(text[:], chart)
    return found


def _cut(text: mmap.mmap, chart: str) -> Listing | None:
    """The chart's lines, cut out and parsed alone; None when the file is not written that plainly."""
    start = _ENTRIES.search(text)
    first = _CHART_KEY.match(text, start.end()) if start else None
    if start is None or first is None:
        return None
    indent = re.escape(first[1])
    names = "|".join(re.escape(form) for form in (chart, f'"{chart}"', f"'{chart}'")).encode()
    key = re.compile(rb"^" + indent + rb"(?:" + names + rb"):[ \t]*\r?\n", re.MULTILINE).search(text, start.end())
    if key is None:
        return None  # rare, and then the whole file decides: no chart is called missing on the strength of a pattern
    # The value ends at the next line that is indented no deeper than its key and is no list item beside it.
    end = re.compile(rb"^(?:" + indent + rb"(?![ \t-])|(?!" + indent + rb")[ \t]*)[^\s#]", re.MULTILINE).search(
        text, key.end()
    )
    block = text[key.start() : end.start() if end else len(text)]
    try:
        value = yaml.load(block, Loader=SafeLoader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, ValueError, RecursionError):
        return None  # an anchor from elsewhere in the file, or no index at all
    items = next(iter(value.values())) if isinstance(value, dict) else None
    return Listing(_entries(items)) if isinstance(items, list) else None


def _whole(text: bytes, chart: str) -> Listing:
    try:
        index = _parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _no_index(str(error).splitlines()[0] if str(error) else error.__class__.__name__) from None
    entries = index.get("entries") if isinstance(index, dict) else None
    if not isinstance(entries, dict):
        raise _no_index("it has no entries")
    items = entries.get(chart)
    charts = () if items else tuple(sorted(name for name in entries if isinstance(name, str)))[:200]
    return Listing(_entries(items if isinstance(items, list) else []), charts)


def _parse(text: bytes) -> Any:
    """JSON is YAML too, but read as JSON it takes a tenth of the time."""
    if text[:1] == b"{":
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return yaml.load(text, Loader=SafeLoader)  # noqa: S506 - it is a safe loader


def _entries(items: list[Any]) -> tuple[Entry, ...]:
    """The entries that can be used: a version and at least one URL."""
    found: list[Entry] = []
    for item in items:
        if not isinstance(item, dict) or not item.get("version"):
            continue
        urls = tuple(url for url in item.get("urls") or () if isinstance(url, str) and url)
        digest = str(item.get("digest") or "").removeprefix("sha256:").lower()
        known = f"sha256:{digest}" if re.fullmatch(r"[0-9a-f]{64}", digest) else ""
        found.append(Entry(str(item["version"]), urls, known))
    return tuple(found)


def _no_index(why: str) -> ChartError:
    return ChartError(
        f"index.yaml is no Helm repository index: {why}",
        reason="ChartFetchFailed",
        hint="does the URL lead to a Helm repository, or to a web page?",
    )
