#!/usr/bin/env bash
# Runs every fuzz target for the given number of seconds (10) from its seeds, and fails when one
# finds something. What it finds is left in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-10}
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target kiln_fuzzers
for target in build/fuzz/tests/fuzz/fuzz_*; do
  [ -x "$target" ] && [ -f "$target" ] || continue
  name=${target##*/fuzz_}
  echo "--- $name, $seconds s"
  grown=$(mktemp -d)
  "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=0 \
    -verbosity=0 -artifact_prefix="build/fuzz/$name-" "$grown" "tests/fuzz/corpus/$name"
  rm -rf "$grown"
done
