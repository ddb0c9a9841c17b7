"""Knowledge distillation from a teacher to a dense detector."""
