"""Progress of long work in the terminal."""
