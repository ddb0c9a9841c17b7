"""`tandem demo`: a distillation experiment from nothing to a verdict."""
