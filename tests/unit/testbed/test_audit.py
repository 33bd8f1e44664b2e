"""Reading the audit log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from testbed import audit


def event(**changes: Any) -> dict[str, Any]:
    base = {
        "verb": "patch",
        "requestURI": "/api/v1/namespaces/a/configmaps/b?fieldManager=x",
        "user": {"username": "admin"},
        "userAgent": "clusterstack/1.0",
        "responseStatus": {"code": 200},
    }
    return {**base, **changes}


def write(path: Path, *events: dict[str, Any]) -> None:
    with path.open("a") as log:
        log.writelines(json.dumps(e) + "\n" for e in events)


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    write(log, event())
    with log.open("a") as unfinished:
        unfinished.write('{"verb": "pat')
    assert [e["verb"] for e in audit.read(log)] == ["patch"]


def test_only_events_behind_the_offset_are_read(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    assert audit.size(log) == 0
    assert list(audit.read(log)) == []
    write(log, event())
    offset = audit.size(log)
    write(log, event(verb="delete"))
    assert [e["verb"] for e in audit.read(log, offset)] == ["delete"]


def test_reads_refusals_and_dry_runs_are_no_writes(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    dry = "/api/v1/namespaces/a/configmaps/b?dryRun=All&fieldManager=x"
    write(log, event(verb="get"), event(responseStatus={"code": 409}), event(requestURI=dry), event(verb="create"))
    assert [e["verb"] for e in audit.writes(log)] == ["create"]


def test_writes_are_told_apart_by_client_and_by_user(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    write(log, event(), event(userAgent="kubectl/v1"), event(user={"username": "system:kwok"}, userAgent="kwok"))
    assert len(audit.writes(log)) == 3
    assert len(audit.writes(log, user_agent="clusterstack")) == 1
    assert len(audit.writes(log, username="system:")) == 1
