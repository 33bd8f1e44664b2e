"""Kinds that every API server serves and the simulator reads or writes."""

from __future__ import annotations

from testbed.simulator.objects import Resource

DEPLOYMENTS = Resource("deployments", "apps", "v1", "Deployment")
DAEMON_SETS = Resource("daemonsets", "apps", "v1", "DaemonSet")
STATEFUL_SETS = Resource("statefulsets", "apps", "v1", "StatefulSet")
JOBS = Resource("jobs", "batch", "v1", "Job")
PODS = Resource("pods", "", "v1", "Pod")
SERVICES = Resource("services", "", "v1", "Service")
SECRETS = Resource("secrets", "", "v1", "Secret")
CONFIG_MAPS = Resource("configmaps", "", "v1", "ConfigMap")
SERVICE_ACCOUNTS = Resource("serviceaccounts", "", "v1", "ServiceAccount")
VOLUME_CLAIMS = Resource("persistentvolumeclaims", "", "v1", "PersistentVolumeClaim")
ENDPOINT_SLICES = Resource("endpointslices", "discovery.k8s.io", "v1", "EndpointSlice")
STORAGE_CLASSES = Resource("storageclasses", "storage.k8s.io", "v1", "StorageClass", namespaced=False)
CRDS = Resource("customresourcedefinitions", "apiextensions.k8s.io", "v1", "CustomResourceDefinition", namespaced=False)
API_SERVICES = Resource("apiservices", "apiregistration.k8s.io", "v1", "APIService", namespaced=False)
MUTATING = Resource(
    "mutatingwebhookconfigurations",
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING = Resource(
    "validatingwebhookconfigurations",
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)

WORKLOADS = (DEPLOYMENTS, DAEMON_SETS, STATEFUL_SETS, JOBS)
ADMISSION = (MUTATING, VALIDATING)
WATCHED = (*WORKLOADS, SERVICES, SECRETS, VOLUME_CLAIMS, ENDPOINT_SLICES, CRDS, API_SERVICES, *ADMISSION)
