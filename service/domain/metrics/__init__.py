"""Time series for Prometheus, computed from rows and counters."""
