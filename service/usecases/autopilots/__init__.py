"""Autopilots: from a dataset and a budget to a student."""
