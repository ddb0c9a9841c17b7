"""Statistics of a dataset, near duplicates across its parts, and a contact sheet."""
