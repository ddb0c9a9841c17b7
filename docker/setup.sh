#!/usr/bin/env bash
# Creates the environment in .venv: exact versions with hashes from docker/environment.lock, mmcv-full
# compiled once per machine, Tandem itself editable. Does nothing if the environment is up to date.
#
# GPUs are used if the driver lists any; FORCE_CUDA=0 or 1 overrides that, see docker/device.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
python=$venv/bin/python
stamp=$venv/.tandem-setup
device=$(docker/device.sh)
recipe=(docker/{environment,installer,cuda-toolkit}.lock docker/{setup,device,mmcv-wheel,cuda-toolkit}.sh
  docker/{mmcv_wheel,mmcv_units,run_uv}.py pyproject.toml)
digest=$({ cat "${recipe[@]}"; echo "$device"; } | sha256sum | cut -d' ' -f1)

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

is_up_to_date() { # is_up_to_date DIGEST DEVICE: compares the content of the stamp file
  [ "${1:-}" = "$digest" ] || return 1
  # If operators for the GPU could not be compiled, only FORCE_CUDA=1 compiles them again.
  [ "${2:-}" = "${device%% *}" ] || [ "${FORCE_CUDA:-}" != 1 ] || return 1
  # Importing them would take seconds before each target of the Makefile.
  "$python" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
    mmcv torch mmdet ray mlflow 2>/dev/null
}

# shellcheck disable=SC2046 # two words
if [ -f "$stamp" ] && is_up_to_date $(cat "$stamp"); then
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

start_s=$SECONDS
if [ ! -x "$python" ]; then
  base=$(find_python)
  say "Creating the environment in $venv"
  "$base" -m venv "$venv" || { echo "On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
fi
quiet=()
[ -t 2 ] || quiet=(--quiet) # progress bars in a terminal, only errors in a log
# With bytecode: some machines never write it, and each process would start seconds later.
install() { "$python" docker/run_uv.py pip install "${quiet[@]}" --compile-bytecode --no-deps "$@"; }

say "Installing exact versions (about 6 GB on disk, most of it torch: a few minutes the first time)"
"$python" -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r docker/installer.lock
install --require-hashes -r docker/environment.lock
packages_s=$((SECONDS - start_s))
say "mmcv-full with its compiled operators ($device)"
# It is compiled without isolation, for the torch of this environment.
wheel=$(docker/mmcv-wheel.sh "$PWD/$python" "$device")
mmcv_s=$((SECONDS - start_s - packages_s))
# A wheel for another device has the same version.
install --reinstall "$wheel"
install --no-build-isolation --editable .
case $wheel in */mmcv-*-cuda_*) built_device=cuda ;; *) built_device=cpu ;; esac
echo "$digest $built_device" > "$stamp"
say "The environment is ready, with operators for $built_device ($((SECONDS - start_s)) s: packages $packages_s s, mmcv-full $mmcv_s s)." \
  "Its commands are in $venv/bin."
# A proof remains, with which `tandem doctor` is fast.
say "Testing it"
"$venv/bin/tandem-worker" doctor || say "Training does not work here yet; \`tandem doctor\` checks it again."
