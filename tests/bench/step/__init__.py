"""The training step of BCKD beside the published code, on the same weights and images."""
