#!/usr/bin/env bash
# Writes a bill of materials of each image (CycloneDX 1.6, JSON) from the locks: packages, versions and the hashes
# of their files. Debian's packages are not listed.
#
#   docker/sbom.sh PYTHON [FOLDER]
set -euo pipefail
python=$(realpath -s "${1:?usage: docker/sbom.sh PYTHON [FOLDER]}")
folder=$(realpath -m "${2:-build/sbom}")
cd "$(dirname "$0")"
tool=$folder/tool
mkdir -p "$folder"

# The tool has an environment and a lock of its own.
"$python" -m venv --clear --without-pip "$tool"
"$python" run_uv.py pip install --quiet --python "$tool/bin/python" --require-hashes --no-deps -r sbom.lock

for image in service worker mlflow; do
  lock=$folder/$image.txt
  cp "$image.lock" "$lock"
  if [ "$image" = worker ]; then
    # Compiled here, from a source whose digest is checked.
    sed -n -E 's/^VERSION = "(.*)"/mmcv-full==\1 \\/p; s/^SHA256 = "(.*)"/    --hash=sha256:\1/p' mmcv_wheel.py >> "$lock"
  fi
  # It warns that a list of requirements says nothing about dependencies between them.
  PYTHONWARNINGS=ignore "$tool/bin/cyclonedx-py" requirements --pyproject ../pyproject.toml --mc-type application --output-reproducible \
    --sv 1.6 --of JSON --output-file "$folder/$image.cdx.json" "$lock"
  rm "$lock"
done
rm -rf "$tool"
