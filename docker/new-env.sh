#!/bin/sh
# Writes .env with passwords and tokens drawn by chance, for compose.yaml. One that is there stays: only
# what it lacks is added, so an upgrade can run it again.
#
#   docker/new-env.sh [FILE]
set -eu
file=${1:-$(cd "$(dirname "$0")/.." && pwd)/.env}
umask 077
touch "$file"

letters() { # letters COUNT: so many letters and digits
  LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c "$1"
}

digits() { # digits COUNT: so many hexadecimal digits
  LC_ALL=C tr -dc '0-9a-f' < /dev/urandom | head -c "$1"
}

add() { # add NAME VALUE, unless it is there
  if grep -q "^$1=." "$file"; then return; fi
  printf '%s=%s\n' "$1" "$2" >> "$file"
  printf '%s was drawn.\n' "$1"
}

add POSTGRES_PASSWORD "$(letters 32)"
add SERVICE_DB_PASSWORD "$(letters 32)"
add MLFLOW_DB_PASSWORD "$(letters 32)"
add RAY_AUTH_TOKEN "$(digits 64)"
add TANDEM_ADMIN_TOKEN "tdm_$(digits 10)_$(letters 43)"
add TANDEM_VIEWER_TOKEN "tdm_$(digits 10)_$(letters 43)"
add GRAFANA_PASSWORD "$(letters 32)"
printf '%s is complete.\n' "$file"
