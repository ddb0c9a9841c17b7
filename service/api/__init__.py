"""HTTP: requests in, views and problems out."""
