"""What stored samples need beyond their schemas, and which samples tell of fields that the CRD at hand has not yet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.cluster.sample_store import Fragment

_PODS = {"containers": [{"name": "main", "image": "sample"}], "restartPolicy": "Never"}
_POLICY_RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
_ROUTE = {"rules": [{"backendRefs": [{"name": "sample", "port": 443}]}]}
_PATCH = '[JSONPatch{op: "add", path: "/metadata/labels/sample", value: "sample"}]'
_TLS_ROUTE = {"hostnames": ["sample.example"], **_ROUTE}

SAID: Mapping[str, Fragment] = MappingProxyType(
    {
        "v1/PersistentVolume": {
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "csi": {"driver": "sample.example", "volumeHandle": "sample"},
            }
        },
        "v1/PodTemplate": {"template": {"spec": _PODS}},
        "v1/ReplicationController": {
            "spec": {
                "selector": {"app": "web"},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {**_PODS, "restartPolicy": "Always"}},
            }
        },
        "batch/CronJob": {"spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": {"spec": _PODS}}}}},
        "networking.k8s.io/IngressClass": {"spec": {"controller": "sample.example/controller"}},
        "networking.k8s.io/ServiceCIDR": {"spec": {"cidrs": ["192.0.2.0/24"]}},
        "storage.k8s.io/VolumeAttributesClass": {"driverName": "sample.example", "parameters": {"sample": "sample"}},
        "v1/PersistentVolumeClaim": {
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        },
        "v1/Service": {"spec": {"ports": [{"port": 80}]}},
        "autoscaling/HorizontalPodAutoscaler": {
            "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
        },
        "batch/Job": {"spec": {"template": {"spec": _PODS}}},
        "networking.k8s.io/Ingress": {"spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}},
        "discovery.k8s.io/EndpointSlice": {"addressType": "IPv4", "endpoints": []},
        "flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration": {
            "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
        },
        "resource.k8s.io/ResourceSlice": {
            "spec": {
                "driver": "sample.example",
                "pool": {"name": "sample", "generation": 1, "resourceSliceCount": 1},
                "allNodes": True,
            }
        },
        "node.k8s.io/RuntimeClass": {"handler": "runc"},
        "storage.k8s.io/StorageClass": {"provisioner": "sample.example/disks"},
        "rbac.authorization.k8s.io/RoleBinding": {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "web"}
        },
        "rbac.authorization.k8s.io/ClusterRoleBinding": {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "web"}
        },
        "admissionregistration.k8s.io/ValidatingAdmissionPolicy": {
            "spec": {
                "matchConstraints": {"resourceRules": [_POLICY_RULE]},
                "validations": [{"expression": "true"}],
            }
        },
        "admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding": {
            "spec": {"policyName": "sample", "validationActions": ["Audit"]}
        },
        "admissionregistration.k8s.io/MutatingAdmissionPolicy": {
            "spec": {
                "matchConstraints": {"resourceRules": [_POLICY_RULE]},
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _PATCH}}],
            }
        },
        "admissionregistration.k8s.io/MutatingAdmissionPolicyBinding": {"spec": {"policyName": "sample"}},
        "helm.toolkit.fluxcd.io/HelmRelease": {"spec": {"chartRef": {"kind": "OCIRepository", "name": "web"}}},
        "gateway.kgateway.dev/Backend": {"spec": {"type": "Static", "static": {"hosts": [{"host": "a", "port": 80}]}}},
        "gateway.kgateway.dev/GatewayExtension": {
            "spec": {"type": "ExtProc", "extProc": {"grpcService": {"backendRef": {"name": "web", "port": 80}}}}
        },
        "gateway.kgateway.dev/GatewayParameters": {"spec": {"kube": {}}},
        "gateway.networking.k8s.io/BackendTLSPolicy": {
            "spec": {"validation": {"hostname": "sample.example", "wellKnownCACertificates": "System"}}
        },
        "gateway.networking.k8s.io/TCPRoute": {"spec": _ROUTE},
        "gateway.networking.k8s.io/TLSRoute": {"spec": _TLS_ROUTE},
        "gateway.networking.k8s.io/UDPRoute": {"spec": _ROUTE},
        "pgv2.percona.com/PerconaPGCluster": {
            "spec": {"backups": {"pgbackrest": {"repos": [{"name": "repo1", "volume": {"volumeClaimSpec": {}}}]}}}
        },
        "tailscale.com/Connector": {"spec": {"exitNode": True}},
        "tailscale.com/Recorder": {"spec": {"replicas": 1}},
    }
)
"""By kind or by sample: what validation in CEL or in Go requires, which the schema does not show."""

FIRST: Mapping[str, Fragment] = MappingProxyType({"v1/ReplicationController": {"spec": {"minReadySeconds": 1}}})
"""How built-in kinds are at first whose samples tell of generation 2."""

APART: Mapping[str, str] = MappingProxyType(
    {
        "apiregistration.k8s.io/APIService": "the API server writes the status itself",
        "certificates.k8s.io/CertificateSigningRequest": "is approved through a subresource of its own",
        "flowcontrol.apiserver.k8s.io/FlowSchema": "the API server writes the status itself",
        "v1/Namespace-inProgress-0": "is stored only as Terminating, together with a deletionTimestamp",
    }
)
"""Kinds and samples that cannot be stored as written, each with the reason."""

NEWER: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "actions.github.com/AutoscalingRunnerSet": (("status.phase",), "since 0.14; at hand: 0.13.1"),
        "actions.github.com/EphemeralRunnerSet": (("status.phase",), "since 0.14; at hand: 0.13.1"),
        "externaldns.k8s.io/DNSEndpoint": (("status.conditions",), "after v0.20.0, which is at hand"),
        "opentelemetry.io/OpenTelemetryCollector": (
            ("status.conditions", "status.observedGeneration"),
            "since v0.154; at hand: v0.145.0",
        ),
    }
)
"""Fields, by kind, that samples of a newer version have: the CRD at hand drops them."""
