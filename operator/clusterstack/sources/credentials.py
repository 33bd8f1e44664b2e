"""What a source is opened with, read from a Secret the way Flux lays it out."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from clusterstack.errors import SpecError

_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything a remote may ask for; what is empty is not offered. PEM texts are as in the Secret."""

    username: str = ""
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    known_hosts: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    client_cert: str = field(default="", repr=False)
    client_key: str = field(default="", repr=False)
    docker_config: str = field(default="", repr=False)

    @classmethod
    def from_secret(cls, data: Mapping[str, bytes]) -> Credentials:
        """Read a Secret's decoded data. Raises SpecError when a value is not text, naming its key only."""

        def text(*keys: str) -> str:
            for key in keys:
                if data.get(key):
                    return _decode(key, data[key])
            return ""

        return cls(
            username=text("username").strip(),
            password=text("password").strip("\r\n"),
            bearer=text("bearerToken").strip(),
            identity=text("identity"),
            known_hosts=text("known_hosts"),
            ca=text("ca.crt", "caFile"),
            client_cert=text("tls.crt", "certFile"),
            client_key=text("tls.key", "keyFile"),
            docker_config=text(".dockerconfigjson"),
        )

    def authorization(self) -> str:
        """The Authorization header's value; empty when there is nothing to say."""
        if self.bearer:
            return f"Bearer {self.bearer}"
        if self.username or self.password:
            return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return ""

    def for_registry(self, host: str) -> Credentials:
        """These credentials with what the docker configuration holds for the registry, if it has it."""
        if not self.docker_config:
            return self
        found = _docker_auth(self.docker_config, host)
        if found is None:
            return self
        return Credentials(
            *found, bearer=self.bearer, ca=self.ca, client_cert=self.client_cert, client_key=self.client_key
        )

    def secrets(self) -> tuple[str, ...]:
        """The values that must never be printed."""
        return tuple(filter(None, (self.password, self.bearer, self.identity, self.client_key)))


def _decode(key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise SpecError(f"the Secret's key {key} is not text", hint="store it as UTF-8 text") from None


def _docker_auth(config: str, host: str) -> tuple[str, str] | None:
    try:
        auths = json.loads(config)["auths"]
        aliases = _DOCKER_HUB if host in _DOCKER_HUB else (host,)
        for key, entry in auths.items():
            name = key.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
            if name in aliases:
                if entry.get("auth"):
                    username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
                    return (username, password)
                return (entry.get("username", ""), entry.get("password", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SpecError("the Secret's key .dockerconfigjson is no docker configuration") from None
    return None
