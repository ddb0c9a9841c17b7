#!/usr/bin/env bash
# Prints the device that mmcv-full's operators are compiled for: "cpu", or "cuda" and the architectures.
#
#   docker/device.sh
#
# FORCE_CUDA=0 or FORCE_CUDA=1 selects the device; without it, the GPUs that the NVIDIA driver lists do. The
# architectures are those of TORCH_CUDA_ARCH_LIST, else of the GPUs, else all that torch is compiled for. The
# reason why a GPU is not used is written to standard error.
set -euo pipefail
min_driver=580
min_architecture=7.5
all_architectures="7.5;8.0;8.6;9.0;10.0;12.0+PTX"

say() { printf '%s\n' "$*" >&2; }

fall_back_to_cpu() { # fall_back_to_cpu REASON: exits, unless FORCE_CUDA is 1
  if [ "${FORCE_CUDA:-}" != 1 ]; then
    say "$1 Runs will use the CPU."
    echo cpu
    exit 0
  fi
}

if [ "${FORCE_CUDA:-}" = 0 ]; then
  echo cpu
  exit 0
fi

gpus=
if command -v nvidia-smi >/dev/null; then
  gpus=$(nvidia-smi --query-gpu=compute_cap,driver_version --format=csv,noheader 2>&1) ||
    { fall_back_to_cpu "nvidia-smi cannot list the GPUs: $gpus."; gpus=; }
elif [ -e /proc/driver/nvidia/version ]; then
  fall_back_to_cpu "An NVIDIA driver is loaded, but its command nvidia-smi is missing, so the GPUs cannot be listed."
elif [ "${FORCE_CUDA:-}" != 1 ]; then
  echo cpu
  exit 0
fi

driver=$(awk -F', *' 'NR == 1 { print $2 }' <<<"$gpus")
if [ -n "$driver" ] && [ "${driver%%.*}" -lt "$min_driver" ]; then
  fall_back_to_cpu "The NVIDIA driver is $driver, and torch (CUDA 13) needs $min_driver or newer."
fi
native=$(awk -F, -v min="$min_architecture" '$1 + 0 >= min { print $1 }' <<<"$gpus" | sort -u -V | paste -sd ';')
if [ -z "$native" ]; then
  fall_back_to_cpu "No GPU has the architecture $min_architecture or newer, which torch (CUDA 13) needs."
fi
echo "cuda ${TORCH_CUDA_ARCH_LIST:-${native:-$all_architectures}}"
