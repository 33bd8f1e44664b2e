"""What is taken out of a manifest before it is applied."""

from __future__ import annotations

import base64

from clusterstack.core.clean import clean


def secret(**fields: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, **fields}


def test_string_data_of_a_secret_becomes_data_and_wins_over_it() -> None:
    cleaned = clean(secret(data={"a": "b2xk", "b": "Yg=="}, stringData={"a": "new ü"}, type="Opaque"))
    assert cleaned["data"] == {"a": base64.b64encode("new ü".encode()).decode(), "b": "Yg=="}
    assert "stringData" not in cleaned
    assert cleaned["type"] == "Opaque"


def test_string_data_that_is_no_text_is_left_for_the_api_server_to_refuse() -> None:
    assert clean(secret(stringData={"a": 1}))["stringData"] == {"a": 1}


def test_string_data_of_other_kinds_is_their_own_affair() -> None:
    other = {**secret(stringData={"a": "b"}), "apiVersion": "example.org/v1"}
    assert clean(other)["stringData"] == {"a": "b"}


def test_what_the_server_writes_and_aggregated_rules_are_left_out() -> None:
    metadata = {"name": "a", "uid": "1", "resourceVersion": "2", "labels": {"a": "b"}}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata,
        "aggregationRule": {"clusterRoleSelectors": []},
        "rules": [{"verbs": ["get"]}],
        "status": {},
    }
    assert clean(role) == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "a", "labels": {"a": "b"}},
        "aggregationRule": {"clusterRoleSelectors": []},
    }
