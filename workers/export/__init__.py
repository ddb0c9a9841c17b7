"""Exports a trained detector to portable files and compares each with the original."""
