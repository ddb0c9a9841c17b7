"""The dry run of a request: its references, findings and plan."""
