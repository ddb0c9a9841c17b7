"""Commands of autopilots: from a dataset and a budget to the best student."""
