"""Where to fetch instead: prefixes of URLs and what stands in for them (air gap, caches, tests)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_SCP = re.compile(r"(?P<user>[\w.+-]+@)(?P<host>[\w.-]+|\[[0-9A-Fa-f:]+\]):(?!//)(?P<path>[^\s]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Rules `(from, to)`; the longest `from` that is a prefix of a URL on a path boundary wins.

    `https://` alone is such a prefix of every https URL. Schemes and hosts compare without case. Git's short form
    `git@host:path` is matched as `ssh://git@host/path`.
    """

    rules: tuple[tuple[str, str], ...] = ()

    def rewrite(self, url: str) -> str:
        """The URL to fetch for `url`; itself when no rule matches."""
        key = _key(as_url(url))
        best: tuple[int, str] | None = None
        for prefix, target in self.rules:
            rest = _rest(key, _key(as_url(prefix)))
            if rest is not None and (best is None or len(prefix.rstrip("/")) > best[0]):
                tail = as_url(url)[len(key) - len(rest) :]
                best = (len(prefix.rstrip("/")), _join(target, tail))
        return best[1] if best else url

    def over(self, base: Mirrors) -> Mirrors:
        """These rules before those of `base`: of two equally long ones, ours wins."""
        return Mirrors(self.rules + base.rules)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that stand in for others: whoever wrote the rule trusts them, wherever they are."""
        return frozenset(filter(None, (urlsplit(as_url(target)).hostname for _, target in self.rules)))


def as_url(text: str) -> str:
    """Git's short form `git@host:path` as a URL; anything else as it is."""
    match = _SCP.fullmatch(text)
    return f"ssh://{match['user']}{match['host']}/{match['path'].lstrip('/')}" if match else text


def _key(url: str) -> str:
    """The URL with scheme and host in small letters, of unchanged length."""
    match = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", url)
    return match[0].lower() + url[match.end() :] if match else url


def _rest(url: str, prefix: str) -> str | None:
    """What follows the prefix in the URL; None when it is no prefix on a path boundary."""
    if url.startswith(prefix) and (prefix.endswith("/") or url[len(prefix) :][:1] in ("", "/", "?", "#")):
        return url[len(prefix) :]
    return "" if prefix == url + "/" else None


def _join(target: str, rest: str) -> str:
    if not rest:
        return target
    if rest[0] in "?#":
        return target + rest
    return target.rstrip("/") + "/" + rest.lstrip("/")
