"""Which queued run starts next, where, with whom, and what follows when it ends."""
