#!/bin/sh
# Writes .env with random passwords and tokens for compose.yaml, and the digests of images that are not built
# here. Existing values are kept and only missing ones added, so it can be run again after an upgrade; a digest
# is replaced by a newer one of the same image.
#
#   docker/new-env.sh [FILE]
set -eu
file=${1:-$(cd "$(dirname "$0")/.." && pwd)/.env}
umask 077
touch "$file"

random_letters() { # random_letters COUNT: a random string of letters and digits
  LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c "$1"
}

random_hex() { # random_hex COUNT: a random string of hexadecimal digits
  LC_ALL=C tr -dc '0-9a-f' < /dev/urandom | head -c "$1"
}

add_if_missing() { # add_if_missing NAME VALUE
  if grep -q "^$1=." "$file"; then return; fi
  printf '%s=%s\n' "$1" "$2" >> "$file"
  printf '%s was generated.\n' "$1"
}

add_if_missing POSTGRES_PASSWORD "$(random_letters 32)"
add_if_missing SERVICE_DB_PASSWORD "$(random_letters 32)"
add_if_missing MLFLOW_DB_PASSWORD "$(random_letters 32)"
add_if_missing RAY_AUTH_TOKEN "$(random_hex 64)"
add_if_missing TANDEM_ADMIN_TOKEN "tdm_$(random_hex 10)_$(random_letters 43)"
add_if_missing TANDEM_VIEWER_TOKEN "tdm_$(random_hex 10)_$(random_letters 43)"
add_if_missing GRAFANA_PASSWORD "$(random_letters 32)"
pin_image() { # pin_image NAME IMAGE DIGEST
  case $(sed -n "s/^$1=//p" "$file") in
    "" | "$2" | "$2@"*) ;;
    *) return ;; # a mirror, or another version
  esac
  sed -i "/^$1=/d" "$file"
  printf '%s=%s@%s\n' "$1" "$2" "$3" >> "$file"
}

images=$(dirname "$0")/base-images.txt
while read -r name image digest; do
  case $digest in sha256:*) pin_image "$name" "$image" "$digest" ;; esac
done < "$images"
printf '%s is complete.\n' "$file"
