"""Which tools the test bed builds, from which Go modules, with which flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOOLS_DIR = Path(__file__).resolve().parent
RENDERER_DIR = TOOLS_DIR.parent.parent / "renderer"
RENDERER = "clusterstack-renderer"

KUBERNETES_VERSION = "v1.36.3"
_KUBE_VERSION_VAR = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True)
class Family:
    """Tools that share one Go module and are linked by one `go build`.

    `packages` maps the name of a binary to the main package it is built from. `own` says that the module's own Go files
    are the program, so that they count for the hash and not only go.mod and go.sum.
    """

    name: str
    module: Path
    packages: tuple[tuple[str, str], ...]
    ldflags: tuple[str, ...] = ()
    own: bool = False

    @property
    def binaries(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.packages)


def _kubernetes() -> Family:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    return Family(
        name="kubernetes",
        module=TOOLS_DIR / "kubernetes",
        packages=tuple((name, f"k8s.io/kubernetes/cmd/{name}") for name in names),
        # Without these the server calls itself v0.0.0: kubectl fails to parse that and charts refuse it.
        ldflags=(
            f"-X {_KUBE_VERSION_VAR}.gitVersion={KUBERNETES_VERSION}",
            f"-X {_KUBE_VERSION_VAR}.gitMajor={major}",
            f"-X {_KUBE_VERSION_VAR}.gitMinor={minor}",
        ),
    )


# In the order of who is waited for most: a control plane needs the first three.
FAMILIES: tuple[Family, ...] = (
    Family("etcd", TOOLS_DIR / "etcd", (("etcd", "go.etcd.io/etcd/server/v3"),)),
    _kubernetes(),
    Family("kwok", TOOLS_DIR / "kwok", (("kwok", "sigs.k8s.io/kwok/cmd/kwok"),)),
    Family("renderer", RENDERER_DIR, ((RENDERER, "."),), own=True),
    Family(
        "helm",
        TOOLS_DIR / "helm",
        (("helm", "helm.sh/helm/v4/cmd/helm"),),
        ldflags=("-X helm.sh/helm/v4/internal/version.version=v4.2.3",),
    ),
    Family("kustomize", TOOLS_DIR / "kustomize", (("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),)),
    Family("sops", TOOLS_DIR / "sops", (("sops", "github.com/getsops/sops/v3/cmd/sops"),)),
)


def family_of(name: str) -> Family:
    """The family named `name`, or the one that holds a binary of that name; KeyError names what there is."""
    for family in FAMILIES:
        if name == family.name or name in family.binaries:
            return family
    known = sorted({*(f.name for f in FAMILIES), *(b for f in FAMILIES for b in f.binaries)})
    raise KeyError(f"no tool {name!r}; there are {', '.join(known)}")
