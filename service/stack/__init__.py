"""The stack on one machine: Ray, MLflow and the service as local processes."""
