#!/usr/bin/env bash
# Makes the environment in .venv: exact versions from docker/environment.lock, mmcv-full compiled once per
# machine, Tandem itself editable. Does nothing when it is up to date.
#
# GPUs are used if the driver lists some: FORCE_CUDA=0 or 1 decides otherwise, see docker/device.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
python=$venv/bin/python
mark=$venv/.tandem-setup
device=$(docker/device.sh)
recipe=(docker/environment.lock docker/{setup,device,mmcv-wheel,cuda-toolkit}.sh docker/mmcv_{wheel,units}.py pyproject.toml)
want=$({ cat "${recipe[@]}"; echo "$device"; } | sha256sum | cut -d' ' -f1)

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

is_up_to_date() { # is_up_to_date DIGEST DEVICE: what the mark says of the environment
  [ "${1:-}" = "$want" ] || return 1
  # Where operators for the GPU could not be compiled, they are tried again only if asked for.
  [ "${2:-}" = "${device%% *}" ] || [ "${FORCE_CUDA:-}" != 1 ] || return 1
  # Imported they would take seconds, before each target of the Makefile.
  "$python" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
    mmcv torch mmdet ray mlflow 2>/dev/null
}

# shellcheck disable=SC2046 # two words
if [ -f "$mark" ] && is_up_to_date $(cat "$mark"); then
  exit 0
fi

find_python() {
  for candidate in python3.11 python3; do
    if command -v "$candidate" >/dev/null \
      && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Tandem needs Python 3.11 (torch, mmcv-full and Ray agree on it). On Debian 12: apt-get install python3 python3-venv python3-dev" >&2
  exit 1
}

began=$SECONDS
if [ ! -x "$python" ]; then
  base=$(find_python)
  say "Making the environment in $venv"
  "$base" -m venv "$venv" || { echo "On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
fi
pip=("$python" -m pip --disable-pip-version-check)
say "Installing exact versions (torch is large: about 6 GB on disk, a few minutes the first time)"
# The build tools come first: mmcv-full is compiled without isolation, against this very torch.
"${pip[@]}" install --quiet --upgrade pip
"${pip[@]}" install --progress-bar on $(grep -E '^(setuptools|wheel|ninja|psutil|numpy|torch|torchvision|opencv-python-headless)==' docker/environment.lock)
say "mmcv-full with its compiled operators ($device)"
wheel=$(docker/mmcv-wheel.sh "$PWD/$python" "$device")
say "Everything else"
"${pip[@]}" install --progress-bar on -r docker/environment.lock
# Of another device it has the same version.
"${pip[@]}" install --quiet --no-deps --force-reinstall "$wheel"
"${pip[@]}" install --quiet --no-deps --no-build-isolation --editable .
case $wheel in */mmcv-*-cuda_*) made=cuda ;; *) made=cpu ;; esac
echo "$want $made" > "$mark"
say "The environment is ready, with operators for $made ($((SECONDS - began)) s). Its commands are in $venv/bin."
