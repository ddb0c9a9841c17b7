#!/bin/sh
# Starts a Ray node in a container.
#
#   ray-node head      manages nodes and jobs and executes no runs; its state is stored in /var/lib/ray
#   ray-node worker    executes runs; starts only if `tandem-worker doctor` finds that it can train
#
# RAY_HEAD: address of the head (ray-head:6379). RAY_WORKER_CPUS: number of cores for runs; by default all.
# RAY_WORKER_GPUS: number of GPUs for runs; by default all GPUs of the container. 0: none.
#
# If the doctor finds a GPU that torch cannot use, no node is started, because Ray would offer that GPU to
# runs: it counts the driver's GPUs. The container exits and is restarted until the problem is fixed.
set -eu
# The service, which is another user of the same group, may delete what runs write.
umask 007
case ${1:-} in
  head)
    export RAY_gcs_storage=rocksdb RAY_gcs_storage_path=/var/lib/ray/gcs
    mkdir -p "$RAY_gcs_storage_path"
    set -- --head --port=6379 --num-cpus=0 --num-gpus=0 --temp-dir=/var/lib/ray \
      --dashboard-host=0.0.0.0 --dashboard-port=8265
    ;;
  worker)
    # Ray accepts only an empty list as "no GPUs"; it counts -1 as one GPU.
    if [ "${RAY_WORKER_GPUS:-}" = 0 ] || [ "${CUDA_VISIBLE_DEVICES:-}" = -1 ]; then export CUDA_VISIBLE_DEVICES=; fi
    tandem-worker doctor || {
      echo "ray-node: this node executes no runs until the problems marked BAD above are fixed." >&2
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
# Tandem passes no data through Ray's object store.
exec ray start "$@" --block --disable-usage-stats --object-store-memory=104857600 --metrics-export-port=8080
