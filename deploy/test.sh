#!/usr/bin/env bash
# Installs what is needed, builds everything, runs the tests. Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash deploy/install-packages.sh
cmake --preset release -DBUILD_TESTING=ON
cmake --build --preset release
# Tests labelled "root" make mounts and containers.
sudo=
if [ "$(id -u)" != 0 ]; then sudo="sudo env PATH=$PATH"; fi
exec $sudo ctest --test-dir build/release --output-on-failure -j"$(nproc)" "$@"
