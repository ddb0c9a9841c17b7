"""Request and response models of the API, one module for each resource."""
