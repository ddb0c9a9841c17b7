"""Renders reports as HTML and Markdown."""
