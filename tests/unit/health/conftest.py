"""One compiled library for all tests of health."""

from __future__ import annotations

import pytest

from clusterstack.core.health import RuleSet


@pytest.fixture(scope="session")
def rules() -> RuleSet:
    return RuleSet.bundled()
