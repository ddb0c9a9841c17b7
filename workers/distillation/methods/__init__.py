"""Distillation methods, a module for each."""
