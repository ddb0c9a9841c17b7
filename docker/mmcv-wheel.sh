#!/bin/sh
# Compiles the mmcv-full wheel once per machine, where it is not yet, and prints its path: mmcv_wheel.py.
#
#   docker/mmcv-wheel.sh PYTHON [DEVICE]
#
# DEVICE: what docker/device.sh prints, which is asked if it is not given.
set -eu
python=${1:?usage: docker/mmcv-wheel.sh PYTHON [DEVICE]}
shift
exec "$python" "$(dirname "$0")/mmcv_wheel.py" "$@"
