"""Which objects are played broken, and how."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

Mode = Literal["", "never", "stuck", "failed", "flap", "slow", "imagepull", "down", "deny", "error"]
"""never: ignored; stuck: intermediate states only; failed: a failing status; flap: healthy, failed, healthy;
slow: ten times the delay; imagepull: pods that cannot pull; down, deny, error: what a webhook does."""


@dataclass(frozen=True, slots=True)
class Rule:
    kind: str
    namespace: str
    name: str
    mode: Mode

    def covers(self, kind: str, namespace: str, name: str) -> bool:
        return (
            fnmatchcase(kind.lower(), self.kind)
            and fnmatchcase(namespace, self.namespace)
            and fnmatchcase(name, self.name)
        )


@dataclass(frozen=True, slots=True)
class BrokenRules:
    """The first rule that covers an object decides."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, text: str) -> BrokenRules:
        """Reads `kind=mode`, `kind/name=mode` or `kind/namespace/name=mode`, comma-separated, with `*` in any part.

        Raises ValueError, naming the entry, where it cannot be read.
        """
        return cls(tuple(_rule(entry.strip()) for entry in text.split(",") if entry.strip()))

    def mode(self, kind: str, namespace: str, name: str) -> Mode:
        return next((rule.mode for rule in self.rules if rule.covers(kind, namespace, name)), "")

    def concerns_pods(self) -> bool:
        return any(rule.kind in ("deployment", "statefulset", "daemonset", "job", "*") for rule in self.rules)


def _rule(entry: str) -> Rule:
    selector, separator, mode = entry.partition("=")
    parts = selector.split("/")
    if not separator or not 1 <= len(parts) <= 3 or mode not in get_args(Mode) or not mode:
        modes = ", ".join(known for known in get_args(Mode) if known)
        raise ValueError(f"{entry!r}: expected kind[/namespace]/name=mode with a mode out of {modes}")
    kind, name = parts[0].lower(), parts[-1] if len(parts) > 1 else "*"
    namespace = parts[1] if len(parts) == 3 else "*"
    return Rule(kind, namespace, name, mode)  # type: ignore[arg-type]  # checked against the literal above
