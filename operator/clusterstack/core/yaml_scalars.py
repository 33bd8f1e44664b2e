"""Plain YAML scalars as Kubernetes reads them: the resolution rules of sigs.k8s.io/yaml, then its way through JSON.

They are YAML 1.1 with Go's number syntax: `yes` and `y` are true, `0777` and `0o777` are octal, `1_000` is a number,
`12:30`, `2024-01-01` and `=` are text. A whole float becomes an integer, because Go writes it as `1000` in JSON.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

Scalar = str | int | float | bool | None

_WORDS: Mapping[str, Scalar] = MappingProxyType(
    {
        **dict.fromkeys(("", "~", "null", "Null", "NULL")),
        **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
        **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
        **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
        **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
        **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    }
)
_NUMBER_START = frozenset("+-.0123456789")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_GROUPED = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)?")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")

TAG = "tag:yaml.org,2002:"


class NotJsonError(ValueError):
    """A value that JSON, hence Kubernetes, cannot hold."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar; raises NotJsonError for infinities and NaN."""
    value = _typed(text)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotJsonError(f"{text} has no place in JSON")
        return whole(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return whole(float(value))
    return value


def resolve_key(text: str) -> str:
    """The string that Go makes of a plain scalar as a mapping's key; raises NotJsonError for null."""
    value = _typed(text)
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case float():
            return _short_float(value)
        case None:
            raise NotJsonError("a key is null")


def resolve_tagged(tag: str, text: str) -> Scalar:
    """The value of a scalar with an explicit tag; raises NotJsonError where text and tag do not fit."""
    kind = tag.removeprefix(TAG)
    if kind == "binary":
        try:
            return base64.b64decode("".join(text.split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise NotJsonError("!!binary is not base64 of UTF-8 text") from None
    if kind not in ("null", "bool", "int", "float") or tag == kind:
        return text
    value = resolve(text)
    fits = {
        "null": value is None,
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
    }
    if not fits[kind]:
        raise NotJsonError(f"a scalar is no !!{kind}")
    return value


def whole(value: float) -> int | float:
    """A float as it comes back from Go's JSON: whole ones below 1e21 are written without a point."""
    if not value.is_integer() or abs(value) >= 1e21:
        return value
    return int(Decimal(repr(value)))


def _typed(text: str) -> Scalar:
    """A plain scalar by its spelling alone."""
    if text in _WORDS:
        return _WORDS[text]
    if not text or text[0] not in _NUMBER_START:
        return text
    # Go drops underscores wherever they are, except after a leading point, where they must separate digits.
    plain = text.replace("_", "") if text[0] != "." or _GROUPED.fullmatch(text) else text
    integer = _INTEGER.fullmatch(plain)
    if integer:
        sign, hexadecimal, binary, octal, decimal = integer.groups()
        bases = ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10))
        digits, base = next((part, base) for part, base in bases if part)
        # More digits exceed 64 bits in any base; int() would refuse thousands of them.
        value = int(digits, base) * (-1 if sign == "-" else 1) if len(digits) <= 64 else 2**64
        if -(2**63) <= value < 2**64:
            return value
    number = float(plain) if _FLOAT.fullmatch(plain) else math.inf
    return text if math.isinf(number) else number


def _short_float(value: float) -> str:
    """Go's FormatFloat(value, 'g', -1, 32): the shortest digits that give the same 32-bit float."""
    single = _single(value)
    shortest = next(text for text in (f"{single:.{digits}e}" for digits in range(17)) if _single(float(text)) == single)
    exponent = int(shortest.partition("e")[2])
    return shortest if exponent < -4 or exponent >= 6 else f"{Decimal(shortest):f}"


def _single(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
