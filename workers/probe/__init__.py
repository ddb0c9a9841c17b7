"""A few steps of a run before a sweep of it: what each parameter moves, and what a step costs."""
