"""Backup and restore of the database, between SQLite and PostgreSQL too."""
