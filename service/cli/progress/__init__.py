"""Progress of runs, sweeps and the stack in the terminal."""
