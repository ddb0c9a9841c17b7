"""Implementations of the ports, one module per external system."""
