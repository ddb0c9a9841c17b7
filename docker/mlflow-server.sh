#!/bin/sh
# Starts MLflow's server in a container; what is given is added to its options.
set -eu
metrics=/tmp/mlflow-metrics
# Figures of processes that are over would stay.
rm -rf "$metrics"
exec mlflow server --host=0.0.0.0 --port=5000 --workers=1 --serve-artifacts --expose-prometheus="$metrics" "$@"
