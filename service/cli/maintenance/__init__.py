"""Commands for this machine and the database: checks, backup, repair, deletion."""
