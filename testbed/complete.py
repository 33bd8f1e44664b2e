"""Completes a sparse object with what its schema requires, so that an API server accepts it.

Nothing that the object says is changed, and nothing is added that may be left out: required fields that have no
default, the fewest items and properties, and of each `oneOf` and `anyOf` the first branch where none holds yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

MOMENT = "2026-01-02T03:04:05Z"

_FORMATS = {
    "date-time": MOMENT,
    "date": "2026-01-02",
    "duration": "1h",
    "byte": "c2FtcGxl",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "cidr": "192.0.2.0/24",
    "uri": "https://sample.example",
    "uuid": "12345678-1234-4234-8234-123456789abc",
}

_GUESSES = (
    *("sample", "Sample", "SAMPLE", "1", "1s", "1h", "1Gi", "1.0.0", "v1", "v1.0.0", "sample.example"),
    *("sample/sample", "sample.example/sample", "https://sample.example", "git@sample.example:sample", "/sample"),
    *("192.0.2.1", "192.0.2.0/24", "sample:1", "@daily", "0 0 * * *", "oci://sample.example/sample", ""),
    *(
        "repo1",
        "org-samplesample",
        "ws-samplesample",
        "https://sample.example/sample.git",
        "sha256:" + 64 * "0",
        64 * "0",
    ),
)
"""Texts of many kinds; the first that a pattern takes is used."""


def complete(value: Any, schema: Schema, where: str = "") -> Any:
    """A copy of `value` with what it lacks; LookupError, naming the field, for a pattern that no guess matches."""
    if isinstance(value, Mapping):
        return _object(value, schema, where)
    if isinstance(value, list):
        return _array(value, schema.get("items") or {}, schema.get("minItems", 0), where)
    return value


def _object(value: Mapping[str, Any], schema: Schema, where: str) -> dict[str, Any]:
    known, others = schema.get("properties") or {}, schema.get("additionalProperties")
    others = others if isinstance(others, Mapping) else {}
    made = {name: complete(held, known.get(name, others), f"{where}.{name}") for name, held in value.items()}
    for name in _required(made, schema):
        if name not in made and "default" not in known.get(name, {}):
            made[name] = _made(known.get(name, others), f"{where}.{name}")
    spare = (name for name in known if name not in made)
    while len(made) < schema.get("minProperties", 0):
        name = next(spare, f"sample{len(made)}")
        made[name] = _made(known.get(name, others), f"{where}.{name}")
    return made


def _required(made: Mapping[str, Any], schema: Schema) -> list[str]:
    """The fields that must be there, those of the chosen branches included."""
    names = list(schema.get("required") or ())
    for branches in (schema.get("oneOf") or (), schema.get("anyOf") or ()):
        wanted = [branch.get("required") or () for branch in branches]
        if wanted and not any(set(fields) <= {*made, *names} for fields in wanted):
            names += wanted[0]
    for branch in schema.get("allOf") or ():
        names += _required({**made, **dict.fromkeys(names)}, branch)
    return names


def _array(value: list[Any], items: Schema, least: int, where: str) -> list[Any]:
    made = [complete(held, items, f"{where}[{index}]") for index, held in enumerate(value)]
    return made + [_made(items, f"{where}[{index}]") for index in range(len(made), least)]


def _made(schema: Schema, where: str) -> Any:
    """The least value that a schema takes."""
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("x-kubernetes-int-or-string"):
        return 1
    match schema.get("type"):
        case "array":
            return complete([], schema, where)
        case "string":
            return _text(schema, where)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return False
        case _:
            return complete({}, schema, where)


def _text(schema: Schema, where: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    least, most, pattern = schema.get("minLength", 0), schema.get("maxLength", 1000), schema.get("pattern")
    guesses = _GUESSES if pattern else ("sample", "s")
    padded = (guess.ljust(least, "x") for guess in guesses)
    for guess in padded:
        if len(guess) <= most and (not pattern or re.search(pattern, guess)):
            return guess
    raise LookupError(f"{where}: no guess matches {pattern!r} with {least} to {most} characters")


def _number(schema: Schema) -> int:
    least = int(schema.get("minimum", 1 if schema.get("maximum", 1) >= 1 else schema["maximum"]))
    return least + 1 if schema.get("exclusiveMinimum") else least
