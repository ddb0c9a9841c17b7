"""Runs one spec on a node; knows nothing of the service."""
