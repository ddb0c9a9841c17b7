#!/usr/bin/env bash
# Installs the part of the CUDA toolkit that mmcv-full's operators are compiled with, and prints its CUDA_HOME.
#
#   docker/cuda-toolkit.sh PYTHON
#
# The libraries and most headers came with torch (nvidia/cu13 of its environment); the compiler and what it
# needs come from the same registry, of torch's own CUDA version: no image of gigabytes, no other base.
set -euo pipefail
python=${1:?usage: docker/cuda-toolkit.sh PYTHON}
here=$(dirname "$0")
"$python" "$here/run_uv.py" pip install --quiet --require-hashes --no-deps -r "$here/cuda-toolkit.lock" >&2
home=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
# Where torch looks for it, and under the name that the linker looks for.
ln -sfn lib "$home/lib64"
ln -sfn libcudart.so.13 "$home/lib/libcudart.so"
"$home/bin/nvcc" --version >&2
echo "$home"
