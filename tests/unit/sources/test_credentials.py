from __future__ import annotations

import base64
import json

import pytest

from clusterstack.errors import SpecError
from clusterstack.sources.credentials import Credentials


def docker_config(**auths: dict[str, str]) -> bytes:
    return json.dumps({"auths": auths}).encode()


def test_a_secret_is_read_by_fluxs_keys() -> None:
    data = {
        "username": b"me",
        "password": b"pass\n",
        "identity": b"KEY",
        "known_hosts": b"HOSTS",
        "caFile": b"CA",
        "other": b"\xff",
    }
    found = Credentials.from_secret(data)
    assert found == Credentials(username="me", password="pass", identity="KEY", known_hosts="HOSTS", ca="CA")


def test_nothing_secret_is_in_the_representation() -> None:
    fields = ("password", "bearer", "identity", "client_key", "docker_config")
    shown = repr(Credentials(**dict.fromkeys(fields, "s3cr3t")))
    assert "s3cr3t" not in shown


def test_a_value_that_is_no_text_is_named_by_its_key_only() -> None:
    with pytest.raises(SpecError, match="key password is not text") as caught:
        Credentials.from_secret({"password": b"s3cr3t\xff"})
    assert "s3cr3t" not in str(caught.value)


def test_a_token_goes_before_a_password() -> None:
    assert Credentials(username="u", password="p", bearer="t").authorization() == "Bearer t"
    assert Credentials(username="u", password="p").authorization() == "Basic " + base64.b64encode(b"u:p").decode()
    assert Credentials().authorization() == ""


def test_a_docker_configuration_gives_the_account_of_its_registry() -> None:
    packed = base64.b64encode(b"me:pass:word").decode()
    config = docker_config(
        **{"ghcr.io": {"auth": packed}, "https://index.docker.io/v1/": {"username": "hub", "password": "p"}}
    )
    found = Credentials.from_secret({".dockerconfigjson": config})
    assert found.for_registry("ghcr.io").authorization() == "Basic " + base64.b64encode(b"me:pass:word").decode()
    assert found.for_registry("registry-1.docker.io").username == "hub"
    assert found.for_registry("other.example").authorization() == ""


@pytest.mark.parametrize(
    "config", [b"s3cr3t", b"{}", b'{"auths": []}', b'{"auths": {"h": {"auth": "s3cr3t!"}}}', b'{"auths": {"h": 5}}']
)
def test_a_broken_docker_configuration_is_said_to_be_without_its_text(config: bytes) -> None:
    with pytest.raises(SpecError, match="no docker configuration") as caught:
        Credentials.from_secret({".dockerconfigjson": config}).for_registry("h")
    assert "s3cr3t" not in str(caught.value)
