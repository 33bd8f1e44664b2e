"""The `clusterstack` command: one file a verb."""
