"""Computes the results of a report: comparisons, trials and importance."""
