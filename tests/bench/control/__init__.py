"""`make bench-control`: what the service costs with 100, 10,000 and 1,000,000 stored runs."""
