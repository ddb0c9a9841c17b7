#!/usr/bin/env bash
# Makes the environment in .venv: exact versions from docker/environment.lock, whose hashes are checked,
# mmcv-full compiled once per machine, Tandem itself editable. Does nothing when it is up to date.
#
# GPUs are used if the driver lists some: FORCE_CUDA=0 or 1 decides otherwise, see docker/device.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
python=$venv/bin/python
mark=$venv/.tandem-setup
device=$(docker/device.sh)
recipe=(docker/{environment,installer,cuda-toolkit}.lock docker/{setup,device,mmcv-wheel,cuda-toolkit}.sh
  docker/{mmcv_wheel,mmcv_units,run_uv}.py pyproject.toml)
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
quiet=()
[ -t 2 ] || quiet=(--quiet) # bars for a person, only what goes wrong for a log
# With bytecode: some machines never write it, and without it each process takes seconds more to start.
install() { "$python" docker/run_uv.py pip install "${quiet[@]}" --compile-bytecode --no-deps "$@"; }

say "Installing exact versions (about 6 GB on disk, most of it torch: a few minutes the first time)"
"$python" -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r docker/installer.lock
install --require-hashes -r docker/environment.lock
packages_s=$((SECONDS - began))
say "mmcv-full with its compiled operators ($device)"
# It is compiled without isolation, against this very torch.
wheel=$(docker/mmcv-wheel.sh "$PWD/$python" "$device")
mmcv_s=$((SECONDS - began - packages_s))
# Of another device it has the same version.
install --reinstall "$wheel"
install --no-build-isolation --editable .
case $wheel in */mmcv-*-cuda_*) made=cuda ;; *) made=cpu ;; esac
echo "$want $made" > "$mark"
say "The environment is ready, with operators for $made ($((SECONDS - began)) s: packages $packages_s s, mmcv-full $mmcv_s s)." \
  "Its commands are in $venv/bin."
