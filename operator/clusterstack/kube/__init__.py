"""The API server: authentication, verbs, discovery, watches, the Lease."""
