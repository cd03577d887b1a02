#!/usr/bin/env bash
# The kiln program against a real kilnd: exit codes, outputs, plain progress, cache.
# cli_test.sh KILN KILND KILN_EXAMPLE SOURCE_FOLDER; needs root for containers.
set -euo pipefail
kiln=$1 kilnd=$2 example=$3 source=$4
work=$(mktemp -d /var/tmp/kiln-cli-test.XXXXXX)
daemon=
stop() {
  if [ -n "$daemon" ]; then kill "$daemon" 2>/dev/null || true; wait "$daemon" || true; fi
  rm -rf "$work"
}
trap stop EXIT
fail() { echo "FAILED: $*"; cat "$work"/*.log 2>/dev/null || true; exit 1; }
expect_code() { # code command...
  local want=$1 got=0
  shift
  "$@" >"$work/out.log" 2>&1 || got=$?
  [ "$got" = "$want" ] || fail "exit code $got instead of $want: $*"
}

export KILN_HOST=unix://$work/d.sock
expect_code 2 "$kiln" no-such-command
expect_code 3 "$kiln" info
"$kilnd" --root "$work/root" --addr "$KILN_HOST" >"$work/kilnd.log" 2>&1 &
daemon=$!
expect_code 0 timeout 30 "$kiln" --wait info

bash "$source/deploy/example/make-base.sh" "$work/base"
cp -r "$source/deploy/example/src" "$work/src"
"$example" >"$work/example.llb"
build=("$kiln" build "$work/example.llb" --local "base=$work/base" --local "src=$work/src"
  --progress plain)
expect_code 0 "${build[@]}" --output "$work/dir"
grep -q 'checked 3 files' "$work/out.log" || fail "no output of the last step"
[ -x "$work/dir/bin/orbit" ] || fail "no exported program"
expect_code 0 "${build[@]}" --output "type=tar,dest=$work/out.tar" --metadata-file "$work/meta.json"
[ "$(grep -c CACHED "$work/out.log")" = 5 ] || fail "the second build is not cached"
tar -tf "$work/out.tar" | grep 'bin/orbit$' >/dev/null || fail "no program in the archive"
grep -q buildx.build.ref "$work/meta.json" || fail "no metadata"
echo 'int broken(' >>"$work/src/app/energy.c"
expect_code 1 "${build[@]}"
grep -q 'energy.c.*error' "$work/out.log" || fail "the failing step's output is not shown"
expect_code 1 "$kiln" build "$work/example.llb" --local "base=$work/none" --local "src=$work/src"

# A Dockerfile on a base from a directory.
mkdir "$work/context"
cat >"$work/context/Dockerfile" <<'DOCKERFILE'
FROM base
ARG WHO
COPY <<TEXT /greeting
hello ${WHO}
TEXT
RUN cat /greeting
DOCKERFILE
docker=("$kiln" build "$work/context" --build-context "base=$work/base" --build-arg WHO=world
  --progress plain)
expect_code 0 "${docker[@]}" -o "$work/tree"
grep -q 'hello world' "$work/out.log" || fail "no output of RUN"
[ "$(cat "$work/tree/greeting")" = "hello world" ] || fail "no file of COPY"
expect_code 0 "${docker[@]}" --output "type=oci,dest=$work/image.tar" --tag app:1 --iidfile "$work/id"
grep -q '^sha256:' "$work/id" || fail "no digest of the image"
tar -tf "$work/image.tar" | grep '^index.json$' >/dev/null || fail "no OCI layout"
expect_code 0 "$kiln" build "$work/context" --call targets
echo 'RUN false' >>"$work/context/Dockerfile"
expect_code 1 "${docker[@]}"
grep -q '>>> RUN false' "$work/out.log" || fail "the failing line is not shown"
expect_code 2 "$kiln" build "$work/no-such-context" --check


# OCI layouts and caches of the client: written, read back, found again after the daemon forgot.
cat >"$work/context/Dockerfile" <<'DOCKERFILE'
FROM base
RUN echo layer > /layer
DOCKERFILE
expect_code 0 "${docker[@]}" -o "type=oci,tar=false,dest=$work/layout" -t base:1
[ -f "$work/layout/oci-layout" ] && grep -q 'docker.io/library/base:1' "$work/layout/index.json" ||
  fail "no OCI layout"
for blob in "$work/layout/blobs/sha256"/*; do
  [ "$(sha256sum "$blob" | cut -d' ' -f1)" = "${blob##*/}" ] || fail "blob $blob is not its name"
done
[ -z "$(ls "$work/layout/ingest")" ] || fail "an ingest is left"
printf 'FROM base\nRUN cat /proc/sys/kernel/random/uuid > /time\n' >"$work/context/Dockerfile"
layout=("$kiln" build "$work/context" --build-context "base=oci-layout://$work/layout:1"
  --progress plain)
expect_code 0 "${layout[@]}" --cache-from "type=local,src=$work/cache" \
  --cache-to "type=local,dest=$work/cache,mode=max" -o "$work/first"
grep -q 'local cache import .* skipped' "$work/out.log" || fail "no word of the missing cache"
[ "$(cat "$work/first/layer")" = layer ] || fail "the layout is not the base"
expect_code 0 "$kiln" prune --all
expect_code 0 "${layout[@]}" --cache-from "type=local,src=$work/cache" -o "$work/second"
cmp "$work/first/time" "$work/second/time" || fail "the local cache was not used"

# Targets of a bake file: a shared one runs once, for both that build on it.
cat >"$work/docker-bake.hcl" <<'HCL'
variable "DEST" {}
group "default" { targets = ["copies"] }
target "shared" {
  contexts = { base = "oci-layout://${DEST}/layout:1" }
  dockerfile-inline = <<-EOT
    FROM base
    RUN cat /proc/sys/kernel/random/uuid > /shared
  EOT
}
target "copies" {
  matrix = { n = ["a", "b"] }
  name = "copy-${n}"
  contexts = { shared = "target:shared" }
  dockerfile-inline = <<-EOT
    FROM scratch
    COPY --from=shared /shared /${n}
  EOT
  output = ["type=local,dest=${DEST}/baked"]
}
HCL
bake=("$kiln" bake -f "$work/docker-bake.hcl" --progress plain)
export DEST=$work
expect_code 0 "${bake[@]}" --print
expect_code 0 "${bake[@]}" --metadata-file "$work/bake.json"
cmp "$work/baked/a" "$work/baked/b" || fail "the shared target did not run once"
grep -q 'copy-a.*COPY' "$work/out.log" || fail "steps don't carry the target's name"
grep -q '"copy-b"' "$work/bake.json" || fail "no metadata of the targets"
expect_code 1 "${bake[@]}" --set 'copy-a.contexts.shared=target:nothing'
expect_code 1 "${bake[@]}" --set 'shared.dockerfile-inline=NONSENSE'
grep -q 'target shared' "$work/out.log" || fail "the failing target is not named"
expect_code 1 "${bake[@]}" --print --set "shared.secrets=id=s,src=$work/nothing"
grep -q 'target shared: .*nothing' "$work/out.log" || fail "--print takes a missing secret"

# Targets that share stages of one Dockerfile, by a group, a matrix and a link: every RUN runs once.
mkdir "$work/stages"
cat >"$work/stages/Dockerfile" <<'DOCKERFILE'
FROM base AS low
RUN --mount=type=cache,target=/runs echo low >>/runs/log; cat /proc/sys/kernel/random/uuid >/low; sleep .2
FROM low AS high
RUN --mount=type=cache,target=/runs echo high >>/runs/log; cat /proc/sys/kernel/random/uuid >/high
FROM high AS first
RUN --mount=type=cache,target=/runs echo first >>/runs/log; cat /proc/sys/kernel/random/uuid >/first
FROM high AS many
ARG N
COPY --from=first /first /of-first
RUN --mount=type=cache,target=/runs echo many-$N >>/runs/log
FROM base AS report
ARG TIME
RUN --mount=type=cache,target=/runs : $TIME; sort /runs/log >/log
DOCKERFILE
cat >"$work/stages/bake.hcl" <<'HCL'
variable "DEST" {}
group "default" { targets = ["first", "many", "linked"] }
target "stages" {
  context = "${DEST}/stages"
  contexts = { base = "oci-layout://${DEST}/layout:1" }
}
target "first" {
  inherits = ["stages"]
  target = "first"
  output = ["type=local,dest=${DEST}/stages/first"]
}
target "many" {
  matrix = { n = ["1", "2", "3"] }
  name = "many-${n}"
  inherits = ["stages"]
  target = "many"
  args = { N = n }
  output = ["type=local,dest=${DEST}/stages/many-${n}"]
}
target "linked" {
  contexts = { first = "target:first", many = "target:many-2" }
  dockerfile-inline = <<-EOT
    FROM many
    COPY --from=first /first /linked
  EOT
  output = ["type=local,dest=${DEST}/stages/linked"]
}
target "report" {
  inherits = ["stages"]
  target = "report"
  args = { TIME = timestamp() }
  output = ["type=local,dest=${DEST}/stages/report"]
}
HCL
bake=("$kiln" bake -f "$work/stages/bake.hcl" --progress rawjson)
expect_code 0 "${bake[@]}"
expect_code 0 "${bake[@]}" report
printf '%s\n' first high low many-1 many-2 many-3 | cmp - "$work/stages/report/log" ||
  fail "steps that targets share did not run once"
for copy in many-1/of-first many-2/of-first many-3/of-first linked/of-first linked/linked; do
  cmp "$work/stages/first/first" "$work/stages/$copy" || fail "$copy is of another run"
done
for target in many-1 many-2 many-3 linked; do
  cmp "$work/stages/first/low" "$work/stages/$target/low" || fail "$target has its own base"
done

expect_code 0 "$kiln" du -v
expect_code 0 "$kiln" stats
kill "$daemon"; wait "$daemon" || true
daemon=
! grep -q "$work" /proc/mounts || fail "a mount is left"
