"""One attempt at a job: its lifecycle, stop signals, failures, watchdog and files."""
