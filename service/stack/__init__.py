"""The stack on one machine: Ray, MLflow and the service as processes that we start and end."""
