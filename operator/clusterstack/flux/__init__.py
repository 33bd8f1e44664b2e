"""Flux's kinds, interpreted as layers, releases and sources; pure."""
