"""Checkpoint files, and which of them are kept."""
