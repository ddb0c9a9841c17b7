"""Runs: plan, launch, act on, query."""
