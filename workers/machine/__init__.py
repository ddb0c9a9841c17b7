"""What this machine has: its NVIDIA driver, its GPUs, and operators that compute right."""
