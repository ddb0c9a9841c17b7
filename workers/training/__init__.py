"""The training loop, its setup, its hooks, and how it resumes."""
