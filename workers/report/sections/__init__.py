"""Builds the sections of a report."""
