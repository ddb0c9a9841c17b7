"""Distillation losses as functions of tensors."""
