"""Sweeps: launch, control, driver log, lifecycle, and status."""
