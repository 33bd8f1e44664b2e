"""Shell-like `${variable}` expansion, with exactly the operators, escapes and oddities of Flux (fluxcd/pkg `envsubst`).

`${v}` `${#v}` `${v^} ${v^^} ${v,} ${v,,}` `${v:n} ${v:n:len}` `${v#p} ${v##p} ${v%p} ${v%%p}` `${v/p/r} ${v//p/r}
${v/#p/r} ${v/%p/r}` `${v:-d} ${v:=d} ${v=d}`; `$$` stands for `$`. Oddities, kept: `:?` and `:+` give a default too,
lengths and offsets count bytes of UTF-8, and a value that is set but empty takes the default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DEFAULTS = frozenset({"=", ":=", ":-", ":?", ":+"})


class ExpansionError(ValueError):
    """A reference is malformed, or (`name`) a variable without default is not set. Never holds a value."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def expand(text: str, variables: Mapping[str, str], *, strict: bool) -> str:
    """Replace every reference; `strict`: an unset variable without a default is an ExpansionError, else it is empty."""
    return _Expander(text, variables, strict=strict).run()


class _Expander:
    """Reads the text once from left to right; a reference's arguments may hold references."""

    def __init__(self, text: str, variables: Mapping[str, str], *, strict: bool) -> None:
        self._text = text
        self._at = 0
        self._variables = variables
        self._strict = strict

    def run(self) -> str:
        parts: list[str] = []
        while self._at < len(self._text):
            dollar = self._text.find("$", self._at)
            end = len(self._text) if dollar < 0 else dollar
            parts.append(self._text[self._at : end])
            self._at = end
            if self._take("${"):
                parts.append(self._reference())
            elif self._take("$$") or self._take("$"):
                parts.append("$")
        return "".join(parts)

    def _take(self, expected: str) -> bool:
        found = self._text.startswith(expected, self._at)
        self._at += len(expected) if found else 0
        return found

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _close(self) -> None:
        if not self._take("}"):
            raise self._fault("is not closed with }")

    def _fault(self, what: str) -> ExpansionError:
        line = self._text.count("\n", 0, self._at) + 1
        return ExpansionError(f"a ${{…}} in line {line} of the object {what}")

    def _name(self) -> str:
        start = self._at
        while (character := self._peek()) and (character.isalpha() or character.isdecimal() or character == "_"):
            self._at += 1
        if self._at == start:
            raise self._fault("has no variable name")
        return self._text[start : self._at]

    def _reference(self) -> str:
        """What follows `${`, to its closing brace."""
        if self._take("#"):
            name = self._name()
            self._close()
            return str(len(self._value(name).encode()))
        name = self._name()
        match self._peek():
            case ":" if self._text[self._at + 1 : self._at + 2] not in ("=", "-", "?", "+"):
                return self._substring(name)
            case ":" | "=":
                return self._default(name)
            case "^" | ",":
                return self._cased(name)
            case "/":
                return self._replaced(name)
            case "#" | "%":
                return self._trimmed(name)
        self._close()
        return self._value(name)

    def _value(self, name: str) -> str:
        if name not in self._variables and self._strict:
            raise ExpansionError(f"variable {name} is not set and has no default", name)
        return self._variables.get(name, "")

    def _operator(self, characters: str, longest: int) -> str:
        start = self._at
        while self._at - start < longest and self._peek() and self._peek() in characters:
            self._at += 1
        return self._text[start : self._at]

    def _argument(self, stops: str, *, escapes: bool = False) -> str:
        """One reference, or text up to a stop or the next reference; text must not be empty."""
        if self._take("${"):
            return self._reference()
        parts: list[str] = []
        while (character := self._peek()) and character not in stops and not self._text.startswith("${", self._at):
            if escapes and self._text[self._at : self._at + 2] in ("$$", "\\/", "\\\\"):
                self._at += 1
                character = self._peek()
            parts.append(character)
            self._at += 1
        if not parts:
            raise self._fault("lacks an argument")
        return "".join(parts)

    def _default(self, name: str) -> str:
        self._at += 1 if self._peek() == "=" else 2
        arguments: list[str] = []
        while self._peek() != "}":
            arguments.append(self._argument("}"))
        self._close()
        return self._variables.get(name, "") or "".join(arguments)

    def _substring(self, name: str) -> str:
        self._take(":")
        offset, length = self._argument(":}"), None
        if self._operator(":", len(self._text)):
            length = self._argument("}")
        self._close()
        return substring(self._value(name), offset, length)

    def _cased(self, name: str) -> str:
        operator = self._operator("^,", 2)
        self._close()
        value = self._value(name)
        match operator:
            case "^":
                return value[:1].upper() + value[1:]
            case "^^":
                return value.upper()
            case ",":
                return value[:1].lower() + value[1:]
            case ",,":
                return value.lower()
            case _:
                return value

    def _trimmed(self, name: str) -> str:
        sign = self._peek()
        operator = self._operator(sign, 2)
        pattern = self._argument("}")
        self._close()
        value, longest = self._value(name), len(operator) == 2
        if sign == "#":
            return trim_prefix(value, pattern, longest=longest)
        return trim_prefix(value[::-1], pattern[::-1], longest=longest)[::-1]

    def _replaced(self, name: str) -> str:
        self._take("/")
        kind = self._operator("/#%", 1)
        pattern = "" if self._peek() == "/" else self._argument("/", escapes=True)
        if not self._operator("/", len(self._text)):
            raise self._fault("lacks the / before the replacement")
        replacement = None if self._peek() == "}" else self._argument("}", escapes=True)
        self._close()
        value = self._value(name)
        match kind:
            case "#":
                fits = replacement is not None and value.startswith(pattern)
                return (replacement or "") + value[len(pattern) :] if fits else value
            case "%":
                fits = replacement is not None and value.endswith(pattern)
                return value[: len(value) - len(pattern)] + (replacement or "") if fits else value
            case _:
                return value.replace(pattern, replacement or "", -1 if kind else 1)


def substring(value: str, offset: str, length: str | None) -> str:
    """`${value:offset:length}` in bytes; what is no number leaves the value as it is."""
    text = value.encode()
    start, count = _number(offset), None if length is None else _number(length)
    if start is None or (length is not None and count is None):
        return value
    start = max(len(text) + start, 0) if start < 0 else start
    if count is None:
        return text[start:].decode(errors="replace")
    end = len(text) + count if count < 0 else start + count
    return text[start:end].decode(errors="replace") if end >= start else ""


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[-+]?[0-9]{1,18}", text) else None


def trim_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """Cut off the shortest or longest non-empty prefix that the pattern matches; a bad pattern cuts nothing."""
    tokens = _tokens(pattern)
    if tokens is None:
        return value
    lengths = range(len(value), 0, -1) if longest else range(1, len(value) + 1)
    for length in lengths:
        if _matches(tokens, value[:length]):
            return value[length:]
    return value


_Token = tuple[str, str]


def _tokens(pattern: str) -> list[_Token] | None:
    """A shell pattern as tokens: any text `*`, any character `?`, classes, literals. None: malformed."""
    tokens: list[_Token] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character in "*?":
            tokens.append((character, ""))
        elif character == "[":
            closing = pattern.find("]", position + 1)
            if closing < 0:
                return None
            tokens.append(("[", pattern[position:closing]))
            position = closing + 1
        elif character == "\\":
            if position == len(pattern):
                return None
            tokens.append(("=", pattern[position]))
            position += 1
        else:
            tokens.append(("=", character))
    return tokens


def _matches(tokens: list[_Token], text: str) -> bool:
    """Whether the tokens match all of a text; linear in both for each star, so no pattern can stall."""
    token = at = 0
    star, retry = -1, 0
    while at < len(text):
        if token < len(tokens) and tokens[token][0] == "*":
            star, retry = token, at
            token += 1
        elif token < len(tokens) and _fits(tokens[token], text[at]):
            token, at = token + 1, at + 1
        elif star >= 0:
            retry += 1
            token, at = star + 1, retry
        else:
            return False
    return all(kind == "*" for kind, _ in tokens[token:])


def _fits(token: _Token, character: str) -> bool:
    kind, operand = token
    if kind == "?":
        return True
    if kind == "=":
        return operand == character
    negated, members = operand.startswith("^"), operand.removeprefix("^")
    found, position = False, 0
    while position < len(members):
        if members[position + 1 : position + 2] == "-" and position + 2 < len(members):
            found = found or members[position] <= character <= members[position + 2]
            position += 3
        else:
            found = found or members[position] == character
            position += 1
    return found is not negated
