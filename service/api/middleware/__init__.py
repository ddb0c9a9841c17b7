"""ASGI middleware of the API, from the outermost inwards."""
