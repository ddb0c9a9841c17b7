"""Baselines of distilled runs: lookup, repetition over seeds, comparison, and seed noise."""
