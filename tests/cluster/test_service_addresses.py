"""Service addresses lie on loopback, so that a local process can be a webhook or an aggregated API."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from testbed import pki
from testbed.api import ApiError
from testbed.controlplane import ControlPlane
from testbed.pytest_plugin import StartControlPlane

pytestmark = pytest.mark.cluster

Answer = Callable[[str, Any], dict[str, Any]]
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def make_ready_endpoint(plane: ControlPlane, service: str) -> None:
    """Stands in for a Ready pod behind the service, without which the aggregator does not even dial it."""
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "", "port": 443, "protocol": "TCP"}],
    }
    plane.api.create(SLICES, body)


def make_service(plane: ControlPlane, name: str) -> str:
    spec = {"ports": [{"port": 443}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    return str(plane.api.create("/api/v1/namespaces/default/services", body)["spec"]["clusterIP"])


@contextmanager
def https_server(address: str, ca: pki.Authority, service: str, folder: Path, answer: Answer) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(None)

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: Any) -> None:
            data = json.dumps(answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    certificate, key = pki.issue(ca, service, hosts=[f"{service}.default.svc"])
    (folder / "tls.pem").write_bytes(certificate + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "tls.pem")
    with ThreadingHTTPServer((address, 443), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def plane(own_control_plane: StartControlPlane) -> ControlPlane:
    plane = own_control_plane(controllers=False)
    if not plane.access.webhooks:
        pytest.skip("needs the right to listen on port 443")
    return plane


def test_a_process_can_be_an_admission_webhook(plane: ControlPlane, tmp_path: Path) -> None:
    ca, address = pki.authority("webhook-ca"), make_service(plane, "judge")
    reference = {"name": "judge", "namespace": "default", "path": "/validate"}
    webhook = {
        "name": "judge.example.org",
        "clientConfig": {"service": reference, "caBundle": base64.b64encode(ca.pem).decode()},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"]}],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    version, kind = "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": "judge"}, "webhooks": [webhook]}
    plane.api.create(WEBHOOKS, body)
    path = "/api/v1/namespaces/default/secrets/{}"

    def create_until(prefix: str, code: int) -> str:
        for attempt in range(200):  # a new webhook configuration takes a moment to be in force
            name = f"{prefix}-{attempt}"
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
            try:
                plane.api.apply(path.format(name), secret)
                found, message = 201, ""
            except ApiError as error:
                found, message = error.code, str(error)
            if found == code:
                return message
        raise AssertionError(f"the answer was never {code}, but {found} {message}")

    def judge(path: str, review: Any) -> dict[str, Any]:
        request = review["request"]
        allowed = not request["name"].startswith("bad")
        response = {"uid": request["uid"], "allowed": allowed, "status": {"message": "no bad Secrets here"}}
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}

    assert "failed to call webhook" in create_until("early", 500)
    with https_server(address, ca, "judge", tmp_path, judge):
        assert "no bad Secrets here" in create_until("bad", 400)
        create_until("good", 201)


def test_a_process_can_be_an_aggregated_api(plane: ControlPlane, tmp_path: Path) -> None:
    ca, address = pki.authority("api-ca"), make_service(plane, "weather")
    resource = {"name": "winds", "singularName": "wind", "namespaced": False, "kind": "Wind", "verbs": ["list"]}
    group_version = "weather.example.org/v1"
    listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": [resource]}
    spec = {
        "group": "weather.example.org",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"name": "weather", "namespace": "default"},
        "caBundle": base64.b64encode(ca.pem).decode(),
    }
    name = "v1.weather.example.org"
    body = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name}, "spec": spec}
    with https_server(address, ca, "weather", tmp_path, lambda path, _: listed):
        make_ready_endpoint(plane, "weather")
        plane.api.create(APISERVICES, body)
        plane.api.wait(f"{APISERVICES}/{name}", is_available)
        assert plane.api.get(f"/apis/{group_version}") == listed


def is_available(api_service: Any) -> bool:
    conditions = api_service.get("status", {}).get("conditions", ())
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)
