"""Streams of events and logs: who may open how many, and one poll for all of them."""
