"""Copies of the database that restore on either engine."""
