#!/usr/bin/env bash
# Makes the environment in .venv: exact versions from docker/environment.lock, mmcv-full compiled once per
# machine, Tandem itself editable. Does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
python=$venv/bin/python
mark=$venv/.tandem-setup
want=$(cat docker/environment.lock docker/mmcv-wheel.sh docker/setup.sh pyproject.toml | sha256sum | cut -d' ' -f1)

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

if [ -f "$mark" ] && [ "$(cat "$mark")" = "$want" ] && "$python" -c 'import mmcv, torch, configs, service, workers' 2>/dev/null; then
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
say "mmcv-full with its compiled operators"
wheel=$(docker/mmcv-wheel.sh "$PWD/$python")
say "Everything else"
"${pip[@]}" install --progress-bar on -r docker/environment.lock
"${pip[@]}" install --quiet --no-deps "$wheel"
"${pip[@]}" install --quiet --no-deps --no-build-isolation --editable .
echo "$want" > "$mark"
say "The environment is ready ($((SECONDS - began)) s). Its commands are in $venv/bin."
