from __future__ import annotations

import pytest

from clusterstack.errors import SourceError
from clusterstack.sources import guard
from clusterstack.sources.guard import GuardedResolver, Reach, check_url, is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
    ],
)
def test_link_local_and_metadata_addresses_are_never_fetched_from(url: str) -> None:
    for options in ({}, {"private": True}, {"redirected": True}):
        with pytest.raises(SourceError) as caught:
            check_url(url, **options)
        assert caught.value.reason == "FetchRefused"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80/", "http://10.0.0.1/", "http://localhost/", "http://[::1]/", "http://192.168.1.1/"]
)
def test_private_addresses_are_fetched_from_when_named_but_not_redirected_to(url: str) -> None:
    check_url(url)
    with pytest.raises(SourceError, match="may not be fetched from"):
        check_url(url, redirected=True)


def test_ordinary_hosts_pass() -> None:
    check_url("https://charts.jetstack.io/index.yaml", redirected=True)
    check_url("https://1.1.1.1/", redirected=True)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("10.0.0.1", False), ("a.example", False)],
)
def test_loopback_is_told_by_the_name_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("reach", "addresses", "allowed"),
    [
        (Reach.PUBLIC, ["10.0.0.7"], []),
        (Reach.PUBLIC, ["10.0.0.7", "1.1.1.1"], ["1.1.1.1"]),
        (Reach.PRIVATE, ["10.0.0.7"], ["10.0.0.7"]),
        (Reach.PRIVATE, ["169.254.169.254"], []),
        (Reach.PRIVATE, ["169.254.169.254", "10.0.0.7"], ["10.0.0.7"]),
    ],
)
async def test_a_name_leads_only_to_addresses_within_reach(
    reach: Reach, addresses: list[str], allowed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Names:
        async def resolve(self, host: str, port: int, family: int) -> list[dict[str, object]]:
            return [{"hostname": host, "host": address, "port": port} for address in addresses]

        async def close(self) -> None:
            pass

    monkeypatch.setattr(guard, "ThreadedResolver", Names)
    resolver = GuardedResolver(reach)
    if allowed:
        assert [one["host"] for one in await resolver.resolve("inner.example", 443)] == allowed
    else:
        with pytest.raises(SourceError, match=r"inner\.example is at"):
            await resolver.resolve("inner.example", 443)
