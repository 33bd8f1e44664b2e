"""YAML as Kubernetes reads it, and as everybody can read it back.

libyaml parses; the tree is built here, event by event, because a composer has opinions that Kubernetes does not share
(unique anchors, dates, sexagesimals) and no limits. Values are what JSON can hold: dict, list, str, int, float, bool,
None. Every fault is a RenderError `InvalidYAML` that names source and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from clusterstack.core.objects import Manifest
from clusterstack.core.yaml_scalars import TAG, NotJsonError, Scalar, resolve, resolve_key, resolve_tagged
from clusterstack.errors import RenderError

NODE_LIMIT = 1_000_000
"""Most nodes in one document once its aliases are expanded."""

DEPTH_LIMIT = 400
"""Deepest nesting; Python's own JSON encoder ends at about 1,000."""

_COMMENTED_SEPARATOR = re.compile(r"^---#", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_UNSEEN = object()


def load_all(text: str | bytes, *, source: str) -> list[Manifest]:
    """The Kubernetes objects of a YAML stream; empty documents are dropped, Lists expanded.

    Raises RenderError `InvalidYAML`, also for a document that is not an object with apiVersion, kind and a name.
    """
    objects: list[Manifest] = []
    for line, document in load_documents(text, source=source):
        objects.extend(_objects(document, source, line))
    return objects


def load_value(text: str | bytes, *, source: str) -> Any:
    """The one document of a YAML text, whatever it holds; None when there is none."""
    documents = list(load_documents(text, source=source))
    if len(documents) > 1:
        raise _invalid(source, documents[1][0], "a second document where one is expected")
    return documents[0][1] if documents else None


def load_documents(text: str | bytes, *, source: str) -> Iterator[tuple[int, Any]]:
    """Each non-empty document of a YAML stream with the line on which it begins, counted from 1."""
    parser = CParser(_prepared(text, source))
    builder = _Builder(source)
    try:
        while True:
            event = parser.get_event()
            if event is None:
                return
            done = builder.feed(event)
            if done is not None:
                yield done
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise _invalid(source, mark.line + 1 if mark else 0, problem) from None
    except yaml.YAMLError as error:
        raise _invalid(source, 0, str(error).splitlines()[0]) from None
    except NotJsonError as error:
        raise _invalid(source, builder.line, str(error)) from None
    finally:
        parser.dispose()


def dump_all(objects: Iterable[Manifest]) -> str:
    """YAML of objects, keys sorted, documents separated; text is quoted wherever some parser would misread it."""
    return "---\n".join(dump(obj) for obj in objects)


def dump(value: object) -> str:
    """YAML of one value."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True, width=2**31 - 1
    )
    return text


def _prepared(text: str | bytes, source: str) -> str:
    if isinstance(text, bytes):
        encoding = "utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        try:
            decoded = text.decode(encoding)
        except UnicodeDecodeError as error:
            raise _invalid(source, text[: error.start].count(b"\n") + 1, "is not UTF-8 text") from None
    else:
        decoded = text
    decoded = decoded.removeprefix("\ufeff")
    control = _CONTROL.search(decoded)
    if control:
        line = decoded.count("\n", 0, control.start()) + 1
        raise _invalid(source, line, f"control character {control.group()!r}")
    return _COMMENTED_SEPARATOR.sub("--- #", decoded)


def _invalid(source: str, line: int, problem: str) -> RenderError:
    where = f"{source}, line {line}" if line else source
    return RenderError(f"{where}: {problem}", reason="InvalidYAML", hint="correct the file in its source")


def _objects(document: Any, source: str, line: int) -> Iterator[Manifest]:
    if not isinstance(document, dict):
        raise _invalid(source, line, "is not a Kubernetes object")
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str) or not document[field]:
            raise _invalid(source, line, f"is not a Kubernetes object: it has no {field}")
    kind, items = document["kind"], document.get("items")
    if kind.endswith("List") and (isinstance(items, list) or (items is None and "items" in document)):
        for item in items or ():
            # Items of a typed list may leave out what the list's own kind says.
            typed = isinstance(item, dict) and kind != "List"
            defaults = {"apiVersion": document["apiVersion"], "kind": kind.removesuffix("List")} if typed else {}
            yield from _objects({**defaults, **item} if typed else item, source, line)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise _invalid(source, line, f"{kind} has no metadata.name")
    yield document


@dataclass(slots=True)
class _Frame:
    """A collection being built. `key` is a mapping's pending key, `merging` whether it is `<<`."""

    value: Any
    anchor: str | None
    line: int
    size: int = 1
    key: Any = _UNSEEN
    merging: bool = False


class _Builder:
    """Builds documents out of libyaml's events, without recursion, counting what it builds."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._start = 0
        self._root: Any = _UNSEEN
        self.line = 0

    def feed(self, event: Any) -> tuple[int, Any] | None:
        """Take an event; a document's end gives the document, unless it is empty."""
        self.line = event.start_mark.line + 1
        match event:
            case yaml.ScalarEvent():
                plain = event.implicit[0] and event.tag is None
                if plain and self._awaits_key():
                    self._add(resolve_key(event.value), 1, event.anchor, merge=event.value == "<<")
                else:
                    self._add(_scalar(event), 1, event.anchor)
            case yaml.MappingStartEvent():
                self._open({}, event.anchor)
            case yaml.SequenceStartEvent():
                self._open([], event.anchor)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event.anchor or "")
            case yaml.DocumentStartEvent():
                self._anchors, self._root, self._start = {}, _UNSEEN, self.line
            case yaml.DocumentEndEvent():
                return None if self._root is None or self._root is _UNSEEN else (self._start, self._root)
        return None

    def _awaits_key(self) -> bool:
        return bool(self._frames) and isinstance(self._frames[-1].value, dict) and self._frames[-1].key is _UNSEEN

    def _open(self, value: Any, anchor: str | None) -> None:
        if len(self._frames) >= DEPTH_LIMIT:
            raise NotJsonError(f"is nested more than {DEPTH_LIMIT} levels deep")
        if anchor is not None:
            self._anchors[anchor] = None
        if not self._frames:
            self._start = self.line
        self._frames.append(_Frame(value, anchor, self.line))

    def _close(self) -> None:
        frame = self._frames.pop()
        self._add(frame.value, frame.size, frame.anchor)

    def _alias(self, name: str) -> None:
        if name not in self._anchors:
            raise NotJsonError(f"unknown anchor {name!r}")
        known = self._anchors[name]
        if known is None:
            raise NotJsonError(f"anchor {name!r} contains itself")
        value, size = known
        self._count(size)
        self._add(_copy(value), size, None)

    def _count(self, size: int) -> None:
        if (self._frames[-1].size if self._frames else 0) + size > NODE_LIMIT:
            raise NotJsonError(f"aliases expand to more than {NODE_LIMIT:,} nodes")

    def _add(self, value: Any, size: int, anchor: str | None, *, merge: bool = False) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._frames:
            self._root = value
            return
        self._count(size)
        frame = self._frames[-1]
        frame.size += size
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is _UNSEEN:
            if isinstance(value, dict | list | bool | None):
                raise NotJsonError("a key is neither text nor a number")
            frame.merging, frame.key = merge, str(value)
        else:
            self._pair(frame, value)

    def _pair(self, frame: _Frame, value: Any) -> None:
        if frame.merging:
            # As in Go, a merge acts where it stands: it yields to what follows, not to what precedes.
            parts = value if isinstance(value, list) else [value]
            for part in reversed(parts):
                if not isinstance(part, dict):
                    raise NotJsonError("<< merges something that is not a mapping")
                frame.value.update(_copy(part))
        else:
            frame.value[frame.key] = value
        frame.key, frame.merging = _UNSEEN, False


def _scalar(event: Any) -> Scalar:
    if event.tag is not None and event.tag != "!":
        return resolve_tagged(event.tag, event.value)
    if event.implicit[0] and event.tag is None:
        return resolve(event.value)
    text: str = event.value
    return text


def _copy(value: Any) -> Any:
    """An alias's own copy, so that a change of one place never shows in another."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


class _Dumper(yaml.CSafeDumper):
    """Quotes what YAML 1.1, YAML 1.2 or Go would not read as text, writes multi-line text as blocks, no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{TAG}str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver(f"{TAG}bool", re.compile(r"[yYnN]$"), list("yYnN"))
_Dumper.add_implicit_resolver(
    f"{TAG}float",
    re.compile(r"[-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("+-.0123456789"),
)
_Dumper.add_implicit_resolver(f"{TAG}int", re.compile(r"[-+]?0[oOxXbB][0-9a-fA-F_]+$"), list("+-0"))
