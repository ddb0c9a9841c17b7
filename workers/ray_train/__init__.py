"""Training with several processes on Ray Train: the driver and the processes."""
