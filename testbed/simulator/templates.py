"""The few Go template expressions that ExternalSecrets use: fields, printf, and pipes into b64enc and the like."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Callable, Mapping

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")


def _nothing(_: str) -> str:
    return ""


_FILTERS: Mapping[str, Callable[[str], str]] = {
    "b64enc": lambda value: base64.b64encode(value.encode()).decode(),
    "b64dec": lambda value: base64.b64decode(value.encode()).decode(),
    "quote": lambda value: f'"{value}"',
    "toString": lambda value: value,
    "trim": str.strip,
    "upper": str.upper,
    "lower": str.lower,
}


def render(text: str, values: Mapping[str, str]) -> str:
    """Unknown fields and functions render to nothing."""
    return _ACTION.sub(lambda match: _pipeline(match[1], values), text)


def _pipeline(expression: str, values: Mapping[str, str]) -> str:
    first, *filters = [part.strip() for part in expression.split("|")]
    words = shlex.split(first)
    if not words:
        return ""
    if words[0] == "printf":
        arguments = [_operand(word, values) for word in words[2:]]
        result = words[1].replace("%s", "{}").format(*arguments)
    else:
        result = _operand(words[0], values)
    for name in filters:
        result = _FILTERS.get(name, _nothing)(result)
    return result


def _operand(word: str, values: Mapping[str, str]) -> str:
    return values.get(word[1:], "") if word.startswith(".") else word
