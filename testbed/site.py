"""A web site on loopback: Git repositories over smart HTTP, and a Helm chart repository made of chart directories.

`python -m testbed.site --root DIR --port N` serves `DIR/git/NAME.git` as `/git/NAME.git`, and what `pack_charts` put
into `DIR/charts` as `/charts`. In a test, `Site` does the same in a thread and can be told to refuse.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml


def pack_charts(source: Path, target: Path) -> None:
    """Packs every chart directory below `source` into `target` and writes the repository's index there."""
    target.mkdir(parents=True, exist_ok=True)
    entries: dict[str, list[dict[str, Any]]] = {}
    for chart in sorted(path.parent for path in source.glob("*/Chart.yaml")):
        meta = yaml.safe_load((chart / "Chart.yaml").read_text())
        archive = _archive(chart)
        name = f"{meta['name']}-{meta['version']}.tgz"
        (target / name).write_bytes(archive)
        entry = {**meta, "urls": [name], "digest": hashlib.sha256(archive).hexdigest()}
        entries.setdefault(meta["name"], []).append(entry)
    index = {"apiVersion": "v1", "entries": entries}
    (target / "index.yaml").write_text(yaml.safe_dump(index, sort_keys=False))


def _archive(chart: Path) -> bytes:
    """The same bytes for the same files, so that packing again changes no digest."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(p for p in chart.rglob("*") if p.is_file()):
            entry = tarfile.TarInfo(f"{chart.name}/{path.relative_to(chart)}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            tar.addfile(entry, io.BytesIO(path.read_bytes()))
    return buffer.getvalue()


class Site:
    """The server; `start` it, or use it as a context manager. `refusing` maps path prefixes to the status to answer."""

    def __init__(self, root: Path, *, port: int = 0) -> None:
        self.root = root
        self.refusing: dict[str, int] = {}
        self.requests: list[str] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Serves until the process ends."""
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *args: Any) -> None:
        self._site = site
        super().__init__(*args, directory=str(site.root))

    def do_GET(self) -> None:
        self._serve(super().do_GET)

    def do_HEAD(self) -> None:
        self._serve(super().do_HEAD)

    def do_POST(self) -> None:
        self._serve(lambda: self.send_error(405))

    def _serve(self, plain: Any) -> None:
        self._site.requests.append(f"{self.command} {self.path}")
        refusal = next((code for prefix, code in self._site.refusing.items() if self.path.startswith(prefix)), None)
        if refusal is not None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_error(refusal)
        elif self.path.startswith("/git/"):
            self._git()
        elif self.path.startswith("/charts/"):
            plain()
        else:
            self.send_error(404)

    def _git(self) -> None:
        path, _, query = self.path.removeprefix("/git").partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(self._site.root / "git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, check=False, capture_output=True)
        head, _, payload = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        """Says nothing: what was asked for is in `Site.requests`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m testbed.site", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder that holds git/ and charts/")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    args = parser.parse_args(argv)
    site = Site(args.root.resolve(), port=args.port).start()
    print(f"serving {args.root} on {site.url}", flush=True)
    site.wait()
    return 0


if __name__ == "__main__":
    main()
