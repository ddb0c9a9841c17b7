"""The report of a run or of a sweep: did distillation help, by how much, where not."""
