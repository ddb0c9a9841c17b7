"""What service and workers say to each other: records, job files, sweep logs, exit codes."""
