"""The webhooks and aggregated APIs of the cluster's charts: answered here, on their Services' own addresses."""
