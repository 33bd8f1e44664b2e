"""Log lines: their shape, their fields, and what must not be in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from clusterstack.telemetry.logs import configure, logger


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_fields() -> None:
    stream = io.StringIO()
    configure("info", True, stream=stream)
    logger("clusterstack.engine").warning("not %s", "applied", extra={"stack": "home", "count": 3})
    (line,) = lines(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "clusterstack.engine",
        "msg": "not applied",
        "stack": "home",
        "count": 3,
    }


def test_an_exception_is_one_line_with_its_traceback() -> None:
    stream = io.StringIO()
    configure("info", True, stream=stream)
    try:
        raise ValueError("over\nthere")
    except ValueError:
        logger("x").exception("bad")
    (line,) = lines(stream)
    assert "ValueError: over\nthere" in line["exc"]


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure("warning", True, stream=stream)
    logger("x").info("quiet")
    assert stream.getvalue() == ""


def test_libraries_chat_is_left_out_of_an_info_log() -> None:
    stream = io.StringIO()
    configure("info", True, stream=stream)
    logging.getLogger("kopf.objects").info("chat")
    logging.getLogger("kopf.objects").warning("news")
    assert [line["msg"] for line in lines(stream)] == ["news"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "text",
    ["https://user:hunter2@example.org/x", "git+ssh://hunter2@example.org", "Authorization: Bearer hunter2hunter2.a-b"],
)
def test_credentials_are_masked_wherever_they_stand(text: str, as_json: bool) -> None:
    stream = io.StringIO()
    configure("info", as_json, stream=stream)
    try:
        raise ValueError(text)
    except ValueError:
        logger("x").exception("failed: %s", text, extra={"error": text})
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") == 3


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure("loud", True, stream=io.StringIO())


def test_configuring_again_replaces_what_was() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("info", True, stream=first)
    configure("info", False, stream=second)
    logger("clusterstack.kube").info("hello", extra={"stack": "home"})
    assert first.getvalue() == ""
    assert second.getvalue().endswith("INFO    kube: hello  stack=home\n")
