"""Checkpoints: atomic files, and the store that decides which of them are kept."""
