"""Hooks of mmcv's runner, one concern a module."""
