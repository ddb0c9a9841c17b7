"""What a person asks for: specs of runs, jobs and sweeps.

Imports nothing: whoever needs a base model or a name does not wait for all specs.
"""
