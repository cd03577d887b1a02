#!/usr/bin/env bash
# Assembles the example's base file system from the files of Debian packages that are installed on
# this machine: make-base.sh DIRECTORY
set -euo pipefail
base=$1
rm -rf "$base"
mkdir -p "$base"/{bin,tmp,proc,dev,sys,etc,out}
# Documentation stays behind; directories are made on the way, links stay links.
for package in tcc libc6 libc6-dev linux-libc-dev libcrypt-dev; do
  dpkg -L "$package" | grep -Ev '^/usr/share/|/gconv/|^/\.$' | while IFS= read -r path; do
    if [ ! -d "$path" ] || [ -L "$path" ]; then printf '%s\0' "$path"; fi
  done
done | tar -C / --null --no-recursion --transform 's,^\(lib\|lib64\)/,usr/\1/,' -cf - -T - 2>/dev/null |
  tar -C "$base" -xf -
# Debian's merged /usr: /lib and /lib64 are links.
ln -sfn usr/lib "$base/lib"
ln -sfn usr/lib64 "$base/lib64"
cp /bin/busybox "$base/bin/busybox"
"$base/bin/busybox" --list | grep -vx busybox | while IFS= read -r applet; do
  ln -sf busybox "$base/bin/$applet"
done
