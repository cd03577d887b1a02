#!/usr/bin/env bash
# From a fresh Debian 12 machine to a running build: installs what is needed, compiles kilnd and
# kiln, starts the daemon and shows on a real example what it does.
#
# KILN_HOST=unix:///… uses a daemon that runs already instead of starting one.
# KILN_QUICKSTART_DIR (default /var/tmp/kiln-quickstart) holds the daemon's data while this runs.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

say "1. Packages and build"
bash deploy/install-packages.sh
cmake --preset release >/dev/null
targets=(kiln kiln-example)
[ -n "${KILN_HOST:-}" ] || targets+=(kilnd)
cmake --build --preset release --target "${targets[@]}"
bin=$PWD/build/release
kiln=$bin/client/kiln
example=$bin/deploy/example/kiln-example

work=${KILN_QUICKSTART_DIR:-/var/tmp/kiln-quickstart}
sudo=
if [ "$(id -u)" != 0 ]; then sudo=sudo; fi
daemon=
stop() {
  if [ -n "$daemon" ]; then
    $sudo kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  $sudo rm -rf "$work"
}
trap stop EXIT
$sudo rm -rf "$work"
mkdir -p "$work"

say "2. The daemon"
if [ -z "${KILN_HOST:-}" ]; then
  export KILN_HOST=unix://$work/kilnd.sock
  $sudo "$bin/daemon/kilnd" --root "$work/root" --addr "$KILN_HOST" >"$work/kilnd.log" 2>&1 &
  daemon=$!
  if ! timeout 20 "$kiln" --wait --timeout 1 info; then
    cat "$work/kilnd.log" >&2
    fail "kilnd did not answer"
  fi
  if [ -n "$sudo" ]; then sudo chmod 666 "$work/kilnd.sock"; fi
else
  "$kiln" info
fi

say "3. A base from Debian's own packages, and sources"
bash deploy/example/make-base.sh "$work/base"
cp -r deploy/example/src "$work/src"
"$example" "first-$$-$RANDOM" >"$work/example.llb"  # the salt: new also to a daemon that knows it
du -sh "$work/base" | sed 's/\t.*/ of busybox, tcc and the C library/'

build() { # log-name definition [flags]: one client; its progress goes to the log
  local log=$work/$1.log definition=$2
  shift 2
  "$kiln" build "$definition" --local base="$work/base" --local src="$work/src" \
    --progress plain "$@" >"$log" 2>&1 || { cat "$log" >&2; fail "the build failed"; }
}
# DONE, CACHED or nothing, for the step whose name begins so.
state() { # log-name step
  awk -v step="$2" '
    index($0, "[" step "]") { number = $1 }
    number != "" && $1 == number && ($2 == "DONE" || $2 == "CACHED") { print $2; exit }
  ' "$work/$1.log"
}
steps() { # log-name: one line per step, and the summary
  for step in base compile bundle assemble check; do
    printf '   %-9s %s\n' "$step" "$(state "$1" "$step")"
  done
  tail -n 1 "$work/$1.log"
}
expect() { # log-name step state
  [ "$(state "$1" "$2")" = "$3" ] ||
    { cat "$work/$1.log" >&2; fail "step $2 should be $3"; }
}
# A counter of kilnd; nothing from another daemon.
counter() { { "$kiln" stats --json 2>/dev/null || true; } | sed -n "s/.*\"vertices_$1\":\([0-9]*\).*/\1/p"; }

say "4. First build: two stages that need nothing of each other run at once"
build first "$work/example.llb" --output "type=local,dest=$work/out"
grep -Ev '^$|transferring|\.\.\.$' "$work/first.log"
awk '/stage (compile|bundle) ran/ { stage = $(NF-3); begin[stage] = $(NF-1); end[stage] = $NF }
  END {
    both = (end["compile"] < end["bundle"] ? end["compile"] : end["bundle"]) - \
           (begin["compile"] > begin["bundle"] ? begin["compile"] : begin["bundle"])
    printf "   compile took %.1f s, bundle %.1f s; both ran at once for %.1f s\n", \
           end["compile"] - begin["compile"], end["bundle"] - begin["bundle"], both
    exit both > 0 ? 0 : 1
  }' "$work/first.log" || fail "the stages did not run at the same time"
ls "$work/out" "$work/out/bin" "$work/out/site"

say "5. The same again: everything comes from the cache"
build second "$work/example.llb"
steps second
for step in base compile bundle assemble check; do expect second "$step" CACHED; done

say "6. Three clients at once ask for the same new steps"
"$example" "salt-$$-$RANDOM" >"$work/salted.llb"
ran=$(counter executed) joined=$(counter joined)
clients=()
for client in 1 2 3; do
  build "client$client" "$work/salted.llb" &
  clients+=($!)
done
for client in "${clients[@]}"; do wait "$client" || fail "a client failed"; done
for stage in compile bundle; do
  # The stage's own record of when it ran. Clients that came while it ran show it; those that were
  # still sending their files then find it done.
  times=$(grep -ho "stage $stage ran .*" "$work"/client?.log)
  printf '   %s: 3 clients, executed %d time(s), seen running by %d\n' "$stage" \
    "$(sort -u <<<"$times" | wc -l)" "$(wc -l <<<"$times")"
  [ "$(sort -u <<<"$times" | wc -l)" = 1 ] || fail "$stage ran more than once"
done
if [ -n "$ran" ]; then
  printf '   kiln stats: %d steps executed, %d joined an execution of another client\n' \
    "$(($(counter executed) - ran))" "$(($(counter joined) - joined))"
fi

say "7. One source file changed: only what depends on it runs again"
sed -i 's/t=%d/time=%d/' "$work/src/app/main.c"
build changed "$work/example.llb" --output "type=local,dest=$work/out"
steps changed
for step in compile assemble check; do expect changed "$step" DONE; done
for step in base bundle; do expect changed "$step" CACHED; done
head -n 1 "$work/out/orbit.txt"

say "Done. The daemon is stopped; nothing of it is left."
