"""A trained detector as files that others can run, each compared with the original."""
