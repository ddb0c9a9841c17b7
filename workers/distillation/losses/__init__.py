"""Distillation losses as pure functions of tensors."""
