"""Groups of processes on Ray Train."""
