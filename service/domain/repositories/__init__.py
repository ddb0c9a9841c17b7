"""Repositories: protocols of the store, one module for each kind of row."""
