#!/usr/bin/env bash
# Installs what is missing of deploy/packages.txt. Nothing to do: nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")"
mapfile -t wanted < <(sed 's/#.*//; s/[[:space:]]//g; /^$/d' packages.txt)
missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
sudo=
if [ "$(id -u)" != 0 ]; then sudo=sudo; fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q
$sudo apt-get install -y -q --no-install-recommends "${missing[@]}"
