"""The only importers of kopf: watching ClusterStacks."""
