"""The operating-system side of a worker: processes, devices, logs, CUDA errors."""
