"""Telemetry of a job: records and logs are spooled to disk and shipped by background threads."""
