#!/usr/bin/env bash
# Runs every fuzz target for the given number of seconds (10) from its seeds, one on each CPU, and
# fails when one finds something. What it finds is left in build/fuzz, with the target's output.
# The second argument is the seed of what is tried (0: another one each time).
set -euo pipefail
cd "$(dirname "$0")/../.."
export seconds=${1:-10} seed=${2:-0}
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target kiln_fuzzers

one() { # name
  local log=build/fuzz/$1.log
  grown=$(mktemp -d)
  trap 'rm -rf "$grown"' EXIT
  if "build/fuzz/tests/fuzz/fuzz_$1" -seed="$seed" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="build/fuzz/$1-" "$grown" "tests/fuzz/corpus/$1" >"$log" 2>&1; then
    echo "$1: $(tail -n 1 "$log")"
  else
    tail -n 100 "$log"
    echo "$1: FAILED"
    return 1
  fi
}
export -f one
find build/fuzz/tests/fuzz -maxdepth 1 -type f -executable -name 'fuzz_*' -printf '%f\n' | sort |
  sed 's/^fuzz_//' | xargs -P "$(nproc)" -I{} bash -euc 'one {}'
