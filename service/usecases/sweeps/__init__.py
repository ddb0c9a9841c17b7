"""Sweeps: launch, act on, drive, report."""
