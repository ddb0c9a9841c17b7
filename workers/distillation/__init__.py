"""How a teacher teaches a dense detector."""
