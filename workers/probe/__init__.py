"""Probes a run before a sweep: which parameters have an effect, and what a step costs."""
