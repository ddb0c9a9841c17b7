#!/bin/sh
# Starts MLflow's server in a container; its arguments are additional options.
set -eu
metrics=/tmp/mlflow-metrics
# Metrics of ended processes would remain.
rm -rf "$metrics"
exec mlflow server --host=0.0.0.0 --port=5000 --workers=1 --serve-artifacts --expose-prometheus="$metrics" "$@"
