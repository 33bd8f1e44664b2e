"""Versions and version constraints as Helm reads them.

Versions are semantic versions, read loosely: a leading `v`, and a missing minor or patch, are fine (`v1`, `1.2`).
Constraints follow the Masterminds/semver rules that Helm and Flux share: `^ ~ > >= < <= = !=`, wildcards (`1.x`, `*`),
hyphen ranges (`1.2 - 1.4`), blanks or commas for "and", `||` for "or". A pre-release satisfies an "and" group only when
a member of that group names one itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_VERSION = 256
_MAX_CONSTRAINT = 512
_MAX_GROUPS = 32

_TAIL = r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
_VERSION = re.compile(r"v?(?P<major>\d+)(?:\.(?P<minor>\d+))?(?:\.(?P<patch>\d+))?" + _TAIL, re.ASCII)
_EXACT = re.compile(r"v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)" + _TAIL, re.ASCII)
_PART = r"(?:\d+|[xX*])"
_OPERATOR = r"=>|=<|>=|<=|!=|~>|=|>|<|~|\^"
_COMPARATOR = re.compile(
    rf"\s*(?P<op>{_OPERATOR})?\s*v?(?P<major>{_PART})(?:\.(?P<minor>{_PART}))?(?:\.(?P<patch>{_PART}))?{_TAIL}",
    re.ASCII,
)
_LOOSE = r"v?[0-9xX*]+(?:\.[0-9xX*]+){0,2}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_HYPHEN = re.compile(rf"({_LOOSE})\s+-\s+({_LOOSE})", re.ASCII)
_SPELLINGS = {"=>": ">=", "=<": "<=", "~>": "~", None: "="}

Triple = tuple[int, int, int]


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One semantic version; ordered and compared by precedence, so build metadata does not count."""

    major: int
    minor: int
    patch: int
    pre: str = ""
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `1.2.3-rc.1+build`, `v1.2.3`, `1.2` or `1`. Raises ValueError for anything else."""
        match = _VERSION.fullmatch(text) if len(text) <= _MAX_VERSION else None
        if match is None:
            raise ValueError(f"{text[:_MAX_VERSION]!r} is not a semantic version")
        major, minor, patch = (int(match[part] or 0) for part in ("major", "minor", "patch"))
        return cls(major, minor, patch, match["pre"] or "", text)

    @property
    def release(self) -> Triple:
        return (self.major, self.minor, self.patch)

    def precedence(self) -> tuple[Triple, bool, tuple[tuple[bool, int, str], ...]]:
        """Sort key (semver.org §11): a pre-release comes before its release, numbers before words."""
        parts = tuple(
            (not p.isdigit(), int(p) if p.isdigit() else 0, p if not p.isdigit() else "") for p in self._parts()
        )
        return (self.release, not self.pre, parts)

    def _parts(self) -> list[str]:
        return self.pre.split(".") if self.pre else []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.precedence() == other.precedence()

    def __lt__(self, other: Version) -> bool:
        return self.precedence() < other.precedence()

    def __hash__(self) -> int:
        return hash(self.precedence())

    def __str__(self) -> str:
        return self.text or ".".join(map(str, self.release)) + (f"-{self.pre}" if self.pre else "")


@dataclass(frozen=True, slots=True)
class _Comparator:
    """One `>=1.2.x`: `given` counts the parts that are numbers (0 for `*`, 3 for a full version)."""

    operator: str
    version: Version
    given: int

    def check(self, version: Version) -> bool:
        match self.operator:
            case "=":
                return version == self.version if self.given == 3 else self._within(version, self._next(self.given))
            case "!=":
                return version != self.version if self.given == 3 else not self._covers(version)
            case ">":
                return version > self.version if self.given in (0, 3) else self._beyond(version)
            case ">=":
                return version >= self.version
            case "<":
                return version < self.version
            case "<=":
                return version <= self.version if self.given == 3 else not self._beyond(version)
            case "~":
                unbounded = self.given == 3 and self.version.release == (0, 0, 0)
                return self._within(version, None if unbounded else self._next(min(self.given, 2)))
            case _:
                return self._within(version, self._caret())

    def _next(self, parts: int) -> Triple | None:
        """The first release past all that share the first `parts` numbers; None: there is no end."""
        major, minor, patch = self.version.release
        return (None, (major + 1, 0, 0), (major, minor + 1, 0), (major, minor, patch + 1))[parts]

    def _caret(self) -> Triple | None:
        """`^`: nothing left of the first number that is not zero may change."""
        numbers = self.version.release[: self.given]
        leading = next((place for place, number in enumerate(numbers, 1) if number), self.given)
        return self._next(leading)

    def _within(self, version: Version, end: Triple | None) -> bool:
        return version >= self.version and (end is None or version.release < end)

    def _beyond(self, version: Version) -> bool:
        end = self._next(self.given)
        return end is not None and version.release >= end

    def _covers(self, version: Version) -> bool:
        return version.release[: self.given] == self.version.release[: self.given]


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a version must satisfy: any one of the groups, and in it every comparator."""

    groups: tuple[tuple[_Comparator, ...], ...]
    text: str

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a constraint; an empty one means `*`. Raises ValueError when it is none."""
        if len(text) > _MAX_CONSTRAINT:
            raise ValueError(f"a version constraint may have {_MAX_CONSTRAINT} characters, this one has {len(text)}")
        groups = _HYPHEN.sub(r">=\1 <=\2", text).split("||")
        if len(groups) > _MAX_GROUPS:
            raise ValueError(f"a version constraint may have {_MAX_GROUPS} alternatives, this one has {len(groups)}")
        return cls(tuple(_group(group, text) for group in groups), text)

    def check(self, version: Version) -> bool:
        """Whether the version satisfies the constraint."""
        return any(
            (not version.pre or any(comparator.version.pre for comparator in group))
            and all(comparator.check(version) for comparator in group)
            for group in self.groups
        )

    def __str__(self) -> str:
        return self.text or "*"


def _group(text: str, whole: str) -> tuple[_Comparator, ...]:
    rest = text.strip() or "*"
    found: list[_Comparator] = []
    while rest:
        match = _COMPARATOR.match(rest)
        end = match.end() if match else 0
        if match is None or (end < len(rest) and not re.match(r"\s*,|\s", rest[end:])):
            raise ValueError(f"{whole!r} is not a version constraint")
        found.append(_comparator(match))
        rest = re.sub(r"\A\s*(?:,\s*(?=\S))?", "", rest[end:])
    return tuple(found)


def _comparator(match: re.Match[str]) -> _Comparator:
    numbers: list[int] = []
    for part in ("major", "minor", "patch"):
        if match[part] is None or match[part] in "xX*":
            break
        numbers.append(int(match[part]))
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    operator = match["op"]
    version = Version(major, minor, patch, match["pre"] or "")
    return _Comparator(_SPELLINGS.get(operator, operator), version, len(numbers))


def is_exact(text: str) -> bool:
    """Whether a version is written out in full (`1.2.3`, `v1.2.3-rc.1`), so that it names one version, not a range."""
    return len(text) <= _MAX_VERSION and _EXACT.fullmatch(text) is not None


def newest(versions: Iterable[str], constraint: str = "") -> str | None:
    """The newest of the versions that satisfies the constraint; None when none does.

    As Helm: the very text of the constraint wins when it is among the versions, an empty constraint takes the newest
    release, and what is no semantic version is passed over. Raises ValueError for a constraint that cannot be read.
    """
    texts = list(versions)
    if constraint and constraint in texts:
        return constraint
    wanted = Constraint.parse(constraint)
    return next((str(version) for version in descending(texts) if wanted.check(version)), None)


def descending(versions: Iterable[str]) -> list[Version]:
    """The semantic versions among the texts, newest first."""
    found: list[Version] = []
    for text in versions:
        try:
            found.append(Version.parse(text))
        except ValueError:
            continue
    return sorted(found, key=lambda version: (version.precedence(), version.text), reverse=True)
