#!/usr/bin/env bash
# Runs the tests of container steps on a Podman of their own: private storage, private socket, an image made here of a
# static busybox. Needs root, podman, runc, iptables and busybox-static (Debian: apt-get install podman runc iptables
# busybox-static); fetches nothing. OSTLER_TEST_ENGINE=unix:///… takes an engine that is there instead.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in podman runc busybox; do
  command -v "$tool" >/dev/null 2>&1 || { echo "error: $tool is missing (Debian: apt-get install podman runc iptables busybox-static)" >&2; exit 2; }
done

place=$(mktemp -d)
engine=
cleanup() {
  [ -z "$engine" ] || { kill "$engine" 2>/dev/null && wait "$engine" || true; }
  "${podman[@]}" rm --all --force >/dev/null 2>&1 || true
  mountpoint -q "$place/graph/overlay" && umount "$place/graph/overlay" || true
  rm -rf "$place"
}
podman=(podman --root "$place/graph" --runroot "$place/run" --storage-driver vfs)
trap cleanup EXIT

# runc takes older layouts of cgroups than crun does; limits are those that a container without more rights has anyway.
cat >"$place/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
export CONTAINERS_CONF="$place/containers.conf"

mkdir -p "$place/image/bin"
cp "$(command -v busybox)" "$place/image/bin/busybox"
for applet in sh cat echo sleep id env pwd ls head tr wc grep touch; do ln -s busybox "$place/image/bin/$applet"; done
tar -C "$place/image" -c . | "${podman[@]}" import --quiet --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' - localhost/ostler-test:busybox >/dev/null

if [ -z "${OSTLER_TEST_ENGINE:-}" ]; then
  "${podman[@]}" system service --time 0 "unix://$place/engine.sock" 2>"$place/engine.log" &
  engine=$!
  for _ in $(seq 100); do [ -S "$place/engine.sock" ] && break; sleep 0.1; done
  export OSTLER_TEST_ENGINE="unix://$place/engine.sock"
else
  "${podman[@]}" save --quiet localhost/ostler-test:busybox -o "$place/image.tar"
  curl --silent --fail --unix-socket "${OSTLER_TEST_ENGINE#unix://}" --data-binary "@$place/image.tar" \
    -H 'Content-Type: application/x-tar' http://engine/v1.40/images/load >/dev/null
fi

status=0
cargo test -p ostler-executors --test container -- --test-threads 2 "$@" || status=$?
[ $status = 0 ] || tail -n 20 "$place/engine.log" >&2 2>/dev/null || true
exit $status
