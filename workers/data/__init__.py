"""Detection datasets on disk: made, imported, checked."""
