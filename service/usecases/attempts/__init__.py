"""An attempt from its start to its end, as the service sees it."""
