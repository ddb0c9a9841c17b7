"""The protocol between service and workers: records, job files, sweep logs, exit codes."""
