"""Builds the report of a run or a sweep: whether distillation helped, and by how much."""
