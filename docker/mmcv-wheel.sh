#!/bin/sh
# Compiles the mmcv-full wheel if this machine has none yet, and prints its path: mmcv_wheel.py.
#
#   docker/mmcv-wheel.sh PYTHON [DEVICE]
#
# DEVICE: the output of docker/device.sh, which is run if it is not given.
set -eu
python=${1:?usage: docker/mmcv-wheel.sh PYTHON [DEVICE]}
shift
exec "$python" "$(dirname "$0")/mmcv_wheel.py" "$@"
