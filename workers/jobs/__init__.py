"""The jobs of a worker, one module each, from their spec to their results."""
