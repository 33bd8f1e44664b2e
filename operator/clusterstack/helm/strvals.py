"""Helm's `--set` language, as Flux uses it for `targetPath` (helm.sh/helm/v4/pkg/strvals).

    a.b=1            nested maps          a\\.b=1     a dot that belongs to the key
    a[0].b=1         a list's item        a={x,y}    a list
    a=1,b=2          two settings         true, false, null and whole numbers are typed

A path that ends inside an index is refused, where Helm drops the setting without a word. Errors never quote what stands
right of a `=`: it may come from a Secret.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

MAX_INDEX = 65536
MAX_DEPTH = 30

_INTEGER = re.compile(r"[+-]?\d+\Z", re.ASCII)
_LITERAL = str.maketrans({character: "\\" + character for character in "\\,[]{}"})


class StrvalsError(ValueError):
    """The path or the value does not follow Helm's `--set` syntax."""


class _End(Exception):  # noqa: N818 - not an error: the text is used up
    """The text ended; `read` is what came before the end."""

    def __init__(self, read: str = "") -> None:
        self.read = read


def set_path(values: dict[str, Any], path: str, text: str, *, literal: bool = False) -> None:
    """Sets `text` at `path` in `values`, in place (Flux's ReplacePathValue and ReplacePathLiteralValue).

    A value in quotes stays a string; a literal one is taken as it is, whatever it holds. Raises `StrvalsError`.
    """
    if literal:
        parse_into(f"{path}={text.translate(_LITERAL)}", values, strings=True)
    elif _quoted(text):
        parse_into(f"{path}={text.strip(chr(39) + chr(34))}", values, strings=True)
    else:
        parse_into(f"{path}={text}", values)


def parse_into(text: str, values: dict[str, Any], *, strings: bool = False) -> None:
    """Carries out the settings of `text` on `values`, in place; `strings`: no value is typed (`--set-string`)."""
    parser = _Parser(text, strings=strings)
    while True:
        try:
            parser.key(values, 0)
        except _End:
            return


def _quoted(text: str) -> bool:
    return any(text.startswith(quote) and text.endswith(quote) for quote in "'\"")


class _Parser:
    """One pass over a `--set` text; positions only move forward."""

    def __init__(self, text: str, *, strings: bool) -> None:
        self._text = text
        self._at = 0
        self._strings = strings

    def key(self, data: dict[str, Any], depth: int) -> None:
        """One setting, from its key on. Raises `_End` when it was the last."""
        try:
            name, stop = self._until("=[,.")
        except _End as end:
            if end.read:
                raise StrvalsError(_no_value()) from None
            raise
        match stop:
            case "[":
                self._keyed_list(data, name, depth)
            case "=":
                self._assign(data, name)
            case ",":
                raise StrvalsError(_no_value())
            case _:
                self._nested(data, name, depth + 1)

    def _assign(self, data: dict[str, Any], name: str) -> None:
        ended = self._at >= len(self._text)
        _set(data, name, self._value())
        if ended:
            raise _End

    def _nested(self, data: dict[str, Any], name: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise StrvalsError(f"the path is nested deeper than {MAX_DEPTH} levels")
        inner = data.get(name, {})
        if not isinstance(inner, dict):
            raise StrvalsError(f"the value at {name!r} is not a map, so nothing can be set inside it")
        last = False
        try:
            self.key(inner, depth)
        except _End:
            last = True
        if inner:
            _set(data, name, inner)
        elif not last:
            raise StrvalsError(f"the map at {name!r} gets no value")
        if last:
            raise _End

    def _keyed_list(self, data: dict[str, Any], name: str, depth: int) -> None:
        index = self._index()
        items = data.get(name, [])
        if not isinstance(items, list):
            raise StrvalsError(f"the value at {name!r} is not a list, so no item of it can be set")
        _set(data, name, self._item(items, index, depth))

    def _index(self) -> int:
        try:
            digits, _ = self._until("]")
        except _End:
            raise StrvalsError("an index in the path has no closing bracket") from None
        if not _INTEGER.match(digits):
            raise StrvalsError("an index in the path is not a number")
        index = int(digits)
        if not 0 <= index <= MAX_INDEX:
            raise StrvalsError(f"an index in the path is not between 0 and {MAX_INDEX}")
        return index

    def _item(self, items: list[Any], index: int, depth: int) -> list[Any]:
        """The list with one item set: the same list, unless it must grow."""
        try:
            between, stop = self._until("[.=")
        except _End:
            raise StrvalsError("the path ends after an index, without a value") from None
        if between:
            raise StrvalsError("there is something between an index of the path and what follows it")
        current = items[index] if index < len(items) else None
        value: Any
        match stop:
            case "=":
                value = self._value()
            case "[":
                nested = self._index()
                if current is not None and not isinstance(current, list):
                    raise StrvalsError("an item of the path is not a list")
                value = self._item([] if current is None else current, nested, depth)
            case _:
                value = current if isinstance(current, dict) else {}
                with suppress(_End):
                    self.key(value, depth)
        grown = items if index < len(items) else [*items, *[None] * (index + 1 - len(items))]
        grown[index] = value
        return grown

    def _value(self) -> Any:
        """The value at this position; the empty string at the end of the text."""
        if self._at >= len(self._text):
            return ""
        if self._text[self._at] == "{":
            self._at += 1
            return self._list()
        try:
            text, _ = self._until(",")
        except _End as end:
            text = end.read
        return self._typed(text)

    def _list(self) -> list[Any]:
        items = []
        while True:
            try:
                text, stop = self._until(",}")
            except _End:
                raise StrvalsError("a list has no closing brace") from None
            items.append(self._typed(text))
            if stop == "}":
                if self._text[self._at : self._at + 1] == ",":
                    self._at += 1
                return items

    def _until(self, stops: str) -> tuple[str, str]:
        """What comes before the next of `stops`, unescaped, and which one it was; `_End` at the end of the text."""
        read: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character in stops:
                return "".join(read), character
            if character == "\\":
                if self._at >= len(self._text):
                    break
                character = self._text[self._at]
                self._at += 1
            read.append(character)
        raise _End("".join(read))

    def _typed(self, text: str) -> Any:
        if self._strings:
            return text
        match text.lower():
            case "true":
                return True
            case "false":
                return False
            case "null":
                return None
            case "0":
                return 0
        if text[:1] != "0" and _INTEGER.match(text) and -(2**63) <= int(text) < 2**63:
            return int(text)
        return text


def _set(data: dict[str, Any], name: str, value: Any) -> None:
    if name:
        data[name] = value


def _no_value() -> str:
    return "a part of the text has no value: a comma starts a new setting; use `literal: true`, or write it as \\,"
