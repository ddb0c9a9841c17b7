"""An autopilot: from a dataset and a budget to a student, with a claim that holds; no I/O."""
