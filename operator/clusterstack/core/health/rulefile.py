"""Rules as users hand them over: a YAML text with a list of rules or one rule, or a ConfigMap with a text per key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clusterstack.core.health.rules import Level, RuleSet
from clusterstack.core.objects import Manifest
from clusterstack.core.yaml import load_value
from clusterstack.errors import RenderError, SpecError


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rules with what a ConfigMap adds to them: how many, which of them could not be taken, and what is risky."""

    rules: RuleSet
    count: int = 0
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_rules(text: str, *, source: str) -> list[Mapping[str, Any]]:
    """The rules of one YAML document: a list, one rule, or `rules: […]`. Raises SpecError `RuleInvalid`."""
    try:
        given = load_value(text, source=source)
    except RenderError as error:
        raise SpecError(str(error), reason="RuleInvalid") from None
    listed = given.get("rules", [given]) if isinstance(given, dict) else [] if given is None else given
    if not isinstance(listed, list):
        raise SpecError(f"{source}: is no list of rules", reason="RuleInvalid")
    for index, rule in enumerate(listed):
        if not isinstance(rule, dict):
            raise SpecError(f"{source}[{index}]: is no rule, which has current: and more", reason="RuleInvalid")
    return listed


def texts_of(config_map: Manifest) -> Iterator[tuple[str, str]]:
    """A ConfigMap's keys in order, each with its text."""
    data = config_map.get("data")
    for key, text in sorted(data.items()) if isinstance(data, dict) else ():
        yield str(key), text if isinstance(text, str) else ""


def load_config_map(config_map: Manifest | None, *, over: RuleSet) -> Loaded:
    """`over` with the cluster-wide rules of a ConfigMap; what is wrong in it is left out, and told by key and index."""
    rules, count = over, 0
    problems = [f"{key}: is binary, not text" for key in sorted((config_map or {}).get("binaryData") or {})]
    for key, text in texts_of(config_map or {}):
        try:
            listed = read_rules(text, source=key)
        except SpecError as error:
            problems.append(str(error))
            continue
        rules, wrong = rules.with_valid(listed, source=key, level=Level.CLUSTER)
        count += len(listed) - len(wrong)
        problems += wrong
    return Loaded(rules, count, tuple(problems), rules.warnings[len(over.warnings) :])
