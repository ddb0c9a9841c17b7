"""What a request would do before it is launched: references, findings, a plan."""
