"""One attempt at a job: its start, its stop orders, its failures, its files."""
