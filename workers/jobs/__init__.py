"""The kinds of job: train, train a pack, evaluate, predict, export, report, probe."""
