"""Fixtures of the engine's tests: no real sleep, no threads, the same jitter every time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from clusterstack.core.health import RuleSet
from tests.engine.home import Home


@pytest.fixture(scope="session")
def rules() -> RuleSet:
    return RuleSet.bundled()


@pytest.fixture
async def home(rules: RuleSet, tmp_path: Path) -> Home:
    random.seed(0)
    return Home(rules, tmp_path)
