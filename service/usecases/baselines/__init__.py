"""Baselines of distilled runs: finding, repeating, comparing, and their noise."""
