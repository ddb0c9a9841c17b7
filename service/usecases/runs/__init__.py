"""Runs: plan, launch, control, and query."""
