"""A real Kubernetes control plane for tests, benchmarks and the demo, without Docker."""
