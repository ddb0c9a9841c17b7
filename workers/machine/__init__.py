"""Examination of a machine: NVIDIA driver, GPUs, and correctness of compiled operators."""
