"""Published results as data, each row with the spec that repeats it."""
