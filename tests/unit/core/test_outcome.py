"""What the API server's refusals mean, by the messages that it really sends."""

from __future__ import annotations

import pytest

from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.outcome import Park, Reject, classify
from clusterstack.core.webhooks import answering, denied
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
    assert outcome.message == "webhook check.example.org of service tools/checker refuses connections"
    assert outcome.keys == (("webhook", "check.example.org", ("tools", "checker")),)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ('no endpoints available for service "checker"', "has no ready endpoints"),
        ('service "checker" not found', "has no such Service yet"),
        ("context deadline exceeded", "does not answer in time"),
        (
            "net/http: request canceled while waiting for connection (Client.Timeout exceeded)",
            "does not answer in time",
        ),
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "shows a certificate that is not trusted yet: x509: certificate signed by unknown authority",
        ),
        ("dial tcp 10.0.0.1:443: connect: no route to host", "cannot be reached"),
        ("EOF", "does not answer yet: EOF"),
    ],
)
def test_why_a_webhook_does_not_answer_is_said_in_few_words(trouble: str, said: str) -> None:
    text = (
        'Internal error occurred: failed calling webhook "check.example.org": failed to call webhook: '
        f'Post "https://checker.tools.svc:443/check?timeout=10s": {trouble}'
    )
    outcome = classify(answered(500, text), SECRET)
    assert isinstance(outcome, Park)
    assert outcome.message == f"webhook check.example.org of service tools/checker {said}"


def test_a_webhook_that_finds_nothing_at_its_path_does_not_answer_yet() -> None:
    text = (
        'Internal error occurred: failed calling webhook "check.example.org": failed to call webhook: '
        "the server could not find the requested resource"
    )
    outcome = classify(answered(500, text), SECRET)
    assert isinstance(outcome, Park)
    assert outcome.service is None
    assert "the server could not find the requested resource" in outcome.message


def test_a_conversion_webhook_that_does_not_answer_is_waited_for_as_well() -> None:
    text = (
        'conversion webhook for example.org/v1, Kind=Widget failed: Post "https://converter.tools.svc:443/convert'
        '?timeout=30s": dial tcp 10.0.0.1:443: connect: connection refused'
    )
    outcome = classify(answered(500, text), WIDGET)
    assert isinstance(outcome, Park)
    assert outcome.service == ("tools", "converter")
    assert outcome.message == "webhook conversion of Widget.example.org of service tools/converter refuses connections"


def test_only_a_webhooks_own_refusal_is_its_answer() -> None:
    text = 'admission webhook "check.example.org" denied the request: not on a Sunday'
    assert denied(text, "check.example.org")
    assert not denied(text, "other.example.org")
    assert not denied("field is immutable", "check.example.org")


@pytest.mark.parametrize(
    ("slices", "answers"),
    [
        ([], False),
        ([{"endpoints": None}], False),
        ([{"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}]}], False),
        ([{"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]}], True),
        ([{"endpoints": [{"addresses": ["10.0.0.1"]}]}], True),
        ([{}, {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": None}}]}], True),
    ],
)
def test_a_service_answers_while_any_endpoint_takes_requests(slices: list[Manifest], answers: bool) -> None:
    assert answering(slices) is answers
