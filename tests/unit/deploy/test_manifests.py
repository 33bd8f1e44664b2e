"""The operator's Deployment and image: what they set, the operator knows; what it needs, they give."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import yaml

from clusterstack.config import add_arguments

DEPLOY = Path(__file__).parents[3] / "deploy"


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((DEPLOY / "base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    assert isinstance(found, dict)
    return found


def known_variables() -> set[str]:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    flags = (option for option in parser.format_help().split() if option.startswith(("--", "[--")))
    names = {re.sub(r"[^a-z-].*", "", flag.strip("[]").lstrip("-")) for flag in flags}
    return {"CLUSTERSTACK_" + name.replace("-", "_").upper() for name in names}


def test_every_setting_that_is_given_is_one_that_the_operator_reads() -> None:
    given = {entry["name"] for entry in container()["env"]}
    given |= set(re.findall(r"CLUSTERSTACK_[A-Z_]+", (DEPLOY / "Dockerfile").read_text()))
    assert {name for name in given if name.startswith("CLUSTERSTACK_")} <= known_variables()
    assert {"POD_NAME", "POD_NAMESPACE"} <= given


def test_it_needs_neither_network_nor_dns_nor_a_ready_node() -> None:
    assert pod()["hostNetwork"] is True
    assert pod()["dnsPolicy"] == "Default"
    tolerated = {toleration["key"] for toleration in pod()["tolerations"] if toleration["operator"] == "Exists"}
    assert {"node.kubernetes.io/not-ready", "node.kubernetes.io/network-unavailable"} <= tolerated


def test_ports_probes_and_service_agree() -> None:
    settings = {entry["name"]: entry.get("value") for entry in container()["env"]}
    (port,) = container()["ports"]
    (served,) = yaml.safe_load((DEPLOY / "base/service.yaml").read_text())["spec"]["ports"]
    assert settings["CLUSTERSTACK_PORT"] == str(port["containerPort"]) == str(served["port"])
    assert served["targetPort"] == port["name"]
    paths = {probe: container()[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_nothing_is_writable_but_what_may_be_lost() -> None:
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert all("emptyDir" in volume for volume in pod()["volumes"])
    writable = {mount["mountPath"] for mount in container()["volumeMounts"]}
    settings = {entry["name"]: entry.get("value") for entry in container()["env"]}
    assert {settings["CLUSTERSTACK_CACHE"], settings["HOME"]} <= writable
