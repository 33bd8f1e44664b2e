"""What the API server's refusals mean, by the messages that it really sends."""

from __future__ import annotations

import pytest

from clusterstack.core.objects import ObjectRef
from clusterstack.core.outcome import Park, Reject, classify
from clusterstack.errors import ApiError

SECRET = ObjectRef("", "Secret", "apps", "wrong")
UNDECODABLE = (
    "failed to convert new object (apps/wrong; /v1, Kind=Secret) to proper version: unable to convert unstructured "
    "object to /v1, Kind=Secret: error decoding from json: illegal base64 data at input byte 6"
)
WIDGET = ObjectRef("example.org", "Widget", "apps", "wrong")


def answered(status: int, text: str) -> ApiError:
    return ApiError(text, status=status, reason="")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            UNDECODABLE,
            "error decoding from json: illegal base64 data at input byte 6",
        ),
        (
            "failed to create typed patch object (apps/wrong; /v1, Kind=Secret): .spec: field not declared in schema",
            ".spec: field not declared in schema",
        ),
    ],
)
def test_what_the_api_server_cannot_read_is_refused_although_it_says_500(text: str, said: str) -> None:
    assert classify(answered(500, text), SECRET) == Reject("Invalid", said)


def test_a_field_that_a_custom_kind_does_not_know_yet_is_waited_for() -> None:
    text = (
        "failed to create typed patch object (apps/wrong; a.org/v1, Kind=Widget): .spec.a: field not declared in schema"
    )
    assert isinstance(classify(answered(500, text), WIDGET), Park)


def test_another_500_is_waited_out() -> None:
    assert isinstance(classify(answered(500, "etcdserver: leader changed"), SECRET), Park)


def test_a_missing_namespace_is_waited_for() -> None:
    outcome = classify(answered(404, 'namespaces "apps" not found'), SECRET)
    assert outcome == Park(
        "NamespaceMissing", "namespace apps does not exist yet", (("object", ObjectRef("", "Namespace", "", "apps")),)
    )


def test_a_webhook_that_does_not_answer_is_waited_for_by_its_service() -> None:
    text = (
        'Internal error occurred: failed calling webhook "check.example.org": failed to call webhook: '
        'Post "https://checker.tools.svc:443/check?timeout=10s": dial tcp 10.0.0.1:443: connect: connection refused'
    )
    outcome = classify(answered(500, text), SECRET)
    assert isinstance(outcome, Park)
    assert (outcome.webhook, outcome.service) == ("check.example.org", ("tools", "checker"))
    assert outcome.message == "webhook check.example.org does not answer yet (service tools/checker)"
