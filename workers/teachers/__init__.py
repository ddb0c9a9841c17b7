"""Brings a teacher in: from a file of another tool to weights and a card of ours."""
