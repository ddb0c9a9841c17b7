#!/usr/bin/env bash
# Builds the mmcv-full wheel once per machine and prints its path.
#
#   docker/mmcv-wheel.sh PYTHON
#
# PYTHON is the interpreter of an environment that already holds torch, numpy, opencv, setuptools<80,
# wheel, ninja and psutil. mmcv-full 1.7.2 is only published as source; compiling it takes about seven
# minutes on two cores, so the wheel is kept outside the environment under a key of everything that
# changes its bytes. Set TANDEM_WHEELS to keep it elsewhere.
set -euo pipefail

python=${1:?usage: docker/mmcv-wheel.sh PYTHON}
mmcv=1.7.2
torch=$("$python" -c 'import torch; print(torch.__version__.replace("+", "_"))')
tag=$("$python" -c 'import sys; print(f"cp{sys.version_info[0]}{sys.version_info[1]}")')
ops=cpu
if [ "${FORCE_CUDA:-0}" = 1 ]; then ops=cuda-$(printf %s "${TORCH_CUDA_ARCH_LIST:-native}" | tr -c 'A-Za-z0-9.+' _); fi
cache=${TANDEM_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/tandem/wheels}
shelf="$cache/mmcv-$mmcv-torch-$torch-$tag-$ops-$(uname -m)"

say() { printf '%s\n' "$*" >&2; }

if wheel=$(ls "$shelf"/*.whl 2>/dev/null); then
  printf '%s\n' "$wheel"
  exit 0
fi

missing=()
for tool in gcc g++; do command -v "$tool" >/dev/null || missing+=("$tool"); done
"$python" - <<'PY' || missing+=("the Python headers")
import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").exists())
PY
if [ "${FORCE_CUDA:-0}" = 1 ] && ! command -v nvcc >/dev/null; then missing+=("nvcc (the CUDA toolkit)"); fi
if [ ${#missing[@]} -gt 0 ]; then
  say "mmcv-full $mmcv has to be compiled and this machine lacks: ${missing[*]}."
  say "On Debian or Ubuntu: apt-get install build-essential python3-dev"
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log="$cache/mmcv-build.log"
mkdir -p "$shelf"
say "Compiling mmcv-full $mmcv for torch $torch ($ops ops), once on this machine: about 7 minutes on 2 cores."
say "The compiler's output goes to $log"
"$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary mmcv-full \
  --dest "$work" "mmcv-full==$mmcv" >"$log" 2>&1 || { tail -n 20 "$log" >&2; say "The source of mmcv-full could not be fetched."; exit 1; }
tar -xzf "$work"/mmcv-full-$mmcv.tar.gz -C "$work"
# torch's headers need C++20 and mmcv asks for older; nothing else has to change.
sed -i 's/-std=c++1[47]/-std=c++20/g' "$work/mmcv-full-$mmcv/setup.py"
(
  cd "$work/mmcv-full-$mmcv"
  PATH="$(dirname "$python"):$PATH" MMCV_WITH_OPS=1 FORCE_CUDA=${FORCE_CUDA:-0} \
    "$python" setup.py bdist_wheel --dist-dir "$work/dist" >>"$log" 2>&1
) &
build=$!
start=$SECONDS
while kill -0 "$build" 2>/dev/null; do
  sleep 5
  done_=$(find "$work" -name '*.o' | wc -l)
  total=$(sed -n 's/.*\[[0-9]*\/\([0-9]*\)\].*/\1/p' "$log" | tail -n 1)
  say "  mmcv-full: $done_ of ${total:-?} files compiled, $((SECONDS - start)) s"
done
if ! wait "$build"; then
  tail -n 30 "$log" >&2
  say "Compiling mmcv-full failed; the whole output is in $log"
  exit 1
fi
mv "$work"/dist/*.whl "$shelf/"
ls "$shelf"/*.whl
