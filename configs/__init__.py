"""Specs of runs and sweeps, the protocol between service and workers, presets, mmdet configs."""
