"""The control plane: decides, remembers, never trains."""
