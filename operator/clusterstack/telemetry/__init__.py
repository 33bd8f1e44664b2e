"""Metrics, JSON logs and the HTTP server."""
