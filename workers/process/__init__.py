"""Operating-system processes of a worker: children, devices, logs, CUDA errors, OOM kills."""
