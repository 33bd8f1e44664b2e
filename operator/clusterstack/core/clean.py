"""What of a manifest is not ours to say, whoever wrote it down."""

from __future__ import annotations

import base64

from clusterstack.core.objects import Manifest, group_of

_SERVER_FIELDS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


def clean(manifest: Manifest) -> Manifest:
    """A copy without what the API server or a controller of Kubernetes writes itself.

    An aggregated ClusterRole's `rules` belong to its controller (kube-controller-manager's aggregation): to own
    them would be a fight without end.
    """
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key not in _SERVER_FIELDS}
    cleaned = {key: value for key, value in manifest.items() if key != "status"} | {"metadata": metadata}
    aggregated = manifest.get("kind") == "ClusterRole" and manifest.get("aggregationRule")
    if aggregated and group_of(str(manifest.get("apiVersion", ""))) == "rbac.authorization.k8s.io":
        cleaned.pop("rules", None)
    return _with_data(cleaned) if (cleaned.get("apiVersion"), cleaned.get("kind")) == ("v1", "Secret") else cleaned


def _with_data(secret: Manifest) -> Manifest:
    """A Secret without `stringData`, which the API server only ever reads: what is applied there is owned by nobody
    afterwards, so that a change would not be seen, and a key that is dropped would stay.
    """
    texts = secret.get("stringData")
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        return secret
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    rest = {key: value for key, value in secret.items() if key not in ("stringData", "data")}
    return {**rest, "data": {**(secret.get("data") or {}), **encoded}}
