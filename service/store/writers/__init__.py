"""How the writing transactions of one process share the database."""
