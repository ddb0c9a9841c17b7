"""Autopilots, their histories and their jobs in the database."""
