"""Readers of annotation formats: each returns what a file says, and what is wrong with it."""
