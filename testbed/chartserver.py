"""Helm charts on loopback: a repository with an index and an OCI registry at once, from memory.

with ChartServer() as server:
    server.publish(chart("web", "1.0.0", {"templates/page.yaml": "..."}))
    HelmRepository(url=server.url)  # or server.oci
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

CONFIG_TYPE = "application/vnd.cncf.helm.config.v1+json"
LAYER_TYPE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class PackedChart:
    """A chart as its repository holds it; the same files make the same bytes."""

    name: str
    version: str
    archive: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()


def chart(name: str, version: str, files: Mapping[str, str], **meta: Any) -> PackedChart:
    """A chart out of texts by path; `meta` are further fields of its Chart.yaml."""
    head = yaml.safe_dump({"apiVersion": "v2", "name": name, "version": version, **meta})
    return _pack(name, version, {"Chart.yaml": head.encode(), **{path: text.encode() for path, text in files.items()}})


def packed(folder: Path, *, version: str = "") -> PackedChart:
    """A chart directory, under another version if one is given."""
    meta = yaml.safe_load((folder / "Chart.yaml").read_text())
    meta["version"] = version or meta["version"]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return _pack(meta["name"], meta["version"], {**files, "Chart.yaml": yaml.safe_dump(meta).encode()})


def _pack(name: str, version: str, files: Mapping[str, bytes]) -> PackedChart:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return PackedChart(name, version, buffer.getvalue())


class ChartServer:
    """The server, in a thread. `requests` are the paths that were asked for."""

    def __init__(self, *, port: int = 0) -> None:
        self.requests: list[str] = []
        self._pages: dict[str, bytes] = {}
        self._charts: dict[tuple[str, str], PackedChart] = {}
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The repository for `helm repo add` and HelmRepository."""
        return f"http://{self._address}/charts"

    @property
    def oci(self) -> str:
        """The same charts as OCI artifacts: `<oci>/<chart>`."""
        return f"oci://{self._address}/charts"

    def publish(self, *charts: PackedChart) -> None:
        """Add charts, or replace those of the same name and version."""
        for one in charts:
            self._charts[one.name, one.version] = one
            self._pages[f"/charts/{one.name}-{one.version}.tgz"] = one.archive
            self._push(one)
        self._index()

    def withdraw(self, name: str, version: str) -> None:
        """Take one chart out of the index, as if it had never been there."""
        del self._charts[name, version]
        del self._pages[f"/charts/{name}-{version}.tgz"]
        self._index()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def _address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host if isinstance(host, str) else host.decode()}:{port}"

    def _index(self) -> None:
        entries: dict[str, list[dict[str, Any]]] = {}
        for one in self._charts.values():
            entry = {"name": one.name, "version": one.version, "urls": [f"{one.name}-{one.version}.tgz"]}
            entries.setdefault(one.name, []).append({**entry, "apiVersion": "v2", "digest": one.digest})
        self._pages["/charts/index.yaml"] = yaml.safe_dump({"apiVersion": "v1", "entries": entries}).encode()

    def _push(self, one: PackedChart) -> None:
        repository = f"/v2/charts/{one.name}"
        layer = self._blob(repository, one.archive, LAYER_TYPE)
        config = self._blob(repository, json.dumps({"name": one.name, "version": one.version}).encode(), CONFIG_TYPE)
        content = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}
        manifest = json.dumps(content).encode()
        for reference in (one.version.replace("+", "_"), f"sha256:{hashlib.sha256(manifest).hexdigest()}"):
            self._pages[f"{repository}/manifests/{reference}"] = manifest
        tags = [version.replace("+", "_") for name, version in self._charts if name == one.name]
        self._pages[f"{repository}/tags/list"] = json.dumps({"name": f"charts/{one.name}", "tags": tags}).encode()

    def _blob(self, repository: str, data: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._pages[f"{repository}/blobs/{digest}"] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                server.requests.append(path)
                page = server._pages.get(path)
                self.send_response(404 if page is None else 200)
                if "/manifests/" in path:
                    self.send_header("Content-Type", MANIFEST_TYPE)
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
                """What was asked for is in `requests`."""

        return Handler
