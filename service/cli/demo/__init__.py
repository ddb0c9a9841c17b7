"""`tandem demo` and related commands: complete distillation experiments."""
