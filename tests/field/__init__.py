"""Faults that users of other tools of this field have reported, tried on Tandem."""
