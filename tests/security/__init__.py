"""Attempts at what nobody should be able to do, one module for each kind of attacker."""
