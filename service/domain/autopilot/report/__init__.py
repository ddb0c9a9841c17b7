"""The report of an autopilot: what it has tried, decided, claimed, spent and delivered."""
