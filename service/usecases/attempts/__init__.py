"""Lifecycle of attempts: waiting, start, records, end; and packs of attempts in one job."""
