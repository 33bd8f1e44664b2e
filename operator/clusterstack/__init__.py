"""ClusterStack: brings a Kubernetes cluster from empty to running out of Git, layer by layer."""

__version__ = "0.1.0"
