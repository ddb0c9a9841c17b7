#!/bin/sh
# Starts a Ray node in a container.
#
#   ray-node head      knows nodes and jobs, takes no run; what it knows is kept in /var/lib/ray
#   ray-node worker    takes runs, once `tandem-worker doctor` has found that it can train
#
# RAY_HEAD: where the head is (ray-head:6379). RAY_WORKER_CPUS: cores that runs may have; all by default.
# RAY_WORKER_GPUS: GPUs that runs may have; by default all that were given to the container. 0: none.
#
# Where the doctor finds a GPU that torch cannot use, no node is started, for Ray would offer it to runs:
# it counts what the driver shows. The container ends, is started again, and is a node once it is mended.
set -eu
case ${1:-} in
  head)
    export RAY_gcs_storage=rocksdb RAY_gcs_storage_path=/var/lib/ray/gcs
    mkdir -p "$RAY_gcs_storage_path"
    set -- --head --port=6379 --num-cpus=0 --num-gpus=0 --temp-dir=/var/lib/ray \
      --dashboard-host=0.0.0.0 --dashboard-port=8265
    ;;
  worker)
    # Ray takes only the empty list for no GPUs: for -1 it counts one.
    if [ "${RAY_WORKER_GPUS:-}" = 0 ] || [ "${CUDA_VISIBLE_DEVICES:-}" = -1 ]; then export CUDA_VISIBLE_DEVICES=; fi
    tandem-worker doctor || {
      echo "ray-node: this node takes no runs until what is BAD above is mended." >&2
      exit 1
    }
    set -- "--address=${RAY_HEAD:-ray-head:6379}" ${RAY_WORKER_CPUS:+"--num-cpus=$RAY_WORKER_CPUS"} \
      ${RAY_WORKER_GPUS:+"--num-gpus=$RAY_WORKER_GPUS"}
    ;;
  *)
    sed -n '2,11p' "$0" >&2
    exit 2
    ;;
esac
# Nothing of ours passes data through Ray's object store.
exec ray start "$@" --block --disable-usage-stats --object-store-memory=104857600 --metrics-export-port=8080
