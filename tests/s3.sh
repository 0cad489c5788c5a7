#!/usr/bin/env bash
# Definitions from object stores, with the clouds' own tools: `s3://` with awscli against moto, and `gs://` with gcloud
# against an emulator where gcloud is installed (it is in no registry of packages; without it, that part is named as
# skipped). What it needs from PyPI is installed once, into $OSTLER_TEST_CACHE (else the user's cache folder).
# Nothing leaves this machine, and no credentials of its user are read.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${OSTLER_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ostler-tests}
packages=("moto[server]==5.2.5" "awscli==1.46.3" "gcp-storage-emulator==2026.7.19")
venv=$cache/s3-$(printf '%s ' "${packages[@]}" | sha256sum | cut -c1-12)
if [ ! -e "$venv/whole" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" -q --disable-pip-version-check install "${packages[@]}"
  touch "$venv/whole"
fi
cargo build -q -p ostler
ostler=${CARGO_TARGET_DIR:-$PWD/target}/debug/ostler

folder=$(mktemp -d)
running=()
cleanup() {
  for process in ${running[@]+"${running[@]}"}; do kill "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"
export PATH="$venv/bin:$PATH" HOME="$folder" OSTLER_STORE="$folder/ostler.db"
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
export AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
unset AWS_PROFILE AWS_SESSION_TOKEN
export CLOUDSDK_CONFIG="$folder/gcloud" CLOUDSDK_CORE_DISABLE_PROMPTS=1 CLOUDSDK_CORE_PROJECT=test

fail() { echo "FAILED: $*" >&2; exit 1; }
# until_so WHAT COMMAND...: waits for a command to succeed, half a minute at most.
until_so() {
  local what=$1
  shift
  for _ in $(seq 300); do
    if "$@" > /dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  fail "$what did not come about in 30 s"
}
# told CODE WORDS COMMAND...: a command that ends with a code and says these words.
told() {
  local code=0 wanted=$1 words=$2 text
  shift 2
  text=$("$@" 2>&1) || code=$?
  [ "$code" = "$wanted" ] || fail "$*: exit code $code instead of $wanted: $text"
  grep -qF -- "$words" <<< "$text" || fail "$*: it does not say \`$words\`: $text"
}
task() { # namespace, line
  printf 'meta: { type: ostler-timetable, version: 1, namespace: %s }\ntasks:\n  - { meta: { id: hello }, run: "%s" }\n' "$1" "$2"
}
version_is() { "$ostler" tasks show "$1:hello" --output json | grep -Eq "\"version\": *$2\b"; }

# What a store of either kind must do. `put FILE KEY` writes an object into the bucket `jobs`.
checks() { # scheme, what is said of an object that is not there, of a bucket that is not there
  local scheme=$1 no_object=$2 no_bucket=$3 url="$1://jobs" server digest log="$1.log"
  task "$scheme" "echo from the store" > a.yaml
  put a.yaml a.yaml
  told 0 "from the store" "$ostler" run "$url/a.yaml"
  digest=$(sha256sum a.yaml | cut -d' ' -f1)
  told 0 "ok:" "$ostler" check "$url/a.yaml#sha256=$digest"
  told 2 "is not what it is pinned to" "$ostler" check "$url/a.yaml#sha256=${digest//[0-9]/f}"

  mkdir -p repo/ops
  task "$scheme-folder" "cat beside" > repo/ops/b.yaml
  echo "it lies beside" > repo/ops/beside
  tar czf ops.tar.gz repo
  put ops.tar.gz v1/ops.tar.gz
  told 0 "it lies beside" "$ostler" run "$url/v1/ops.tar.gz#path=ops"
  told 3 "holds no \`none\`" "$ostler" run "$url/v1/ops.tar.gz#path=none"

  told 5 "$no_object" "$ostler" check "$url/none.yaml"
  told 5 "hint: see whether bucket and key" "$ostler" check "$url/none.yaml"
  told 5 "$no_bucket" "$ostler" check "$scheme://none/a.yaml"
  told 2 "names no object" "$ostler" check "$url/folder/"
  head -c 17000000 /dev/zero > large
  put large large.yaml
  told 5 "it is larger than 16 MiB" "$ostler" check "$url/large.yaml"

  "$ostler" serve "$url/a.yaml" --poll 200ms --listen 127.0.0.1:0 2> "$log" &
  server=$!
  running+=("$server")
  until_so "$scheme: the server" grep -q http:// "$log"
  version_is "$scheme" 1 || fail "$scheme: what is served was not pushed"
  task "$scheme" "echo changed" > a.yaml
  put a.yaml a.yaml
  until_so "$scheme: the new version" version_is "$scheme" 2
  echo "tasks: [" > broken.yaml
  put broken.yaml a.yaml
  until_so "$scheme: the complaint" grep -q "the change was not taken" "$log"
  task "$scheme" "echo again" > a.yaml
  put a.yaml a.yaml
  until_so "$scheme: the version after the broken one" version_is "$scheme" 3
  [ "$(grep -c "the change was not taken" "$log")" = 1 ] || fail "$scheme: a broken object is told once: $(cat "$log")"
  kill "$server"
  wait "$server" || fail "$scheme: the server ended badly: $(cat "$log")"
  echo "$scheme: all as it should be"
}

moto_server -H 127.0.0.1 -p 0 > moto.log 2>&1 &
running+=($!)
until_so "moto" grep -q "Running on" moto.log
AWS_ENDPOINT_URL=$(grep -o 'http://[0-9.:]*' moto.log | head -1)
export AWS_ENDPOINT_URL
aws s3 mb s3://jobs > /dev/null
put() { aws s3 cp --only-show-errors "$1" "s3://jobs/$2"; }
checks s3 "(404)" "(404)"
told 5 "hint: give \`aws\` credentials" env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY "$ostler" check s3://jobs/a.yaml
# A machine without the tool is told which. `cat` and its kin are all that is left of the path.
mkdir bare
told 5 "hint: install aws" env PATH="$folder/bare" "$ostler" check s3://jobs/a.yaml

if ! command -v gcloud > /dev/null; then
  echo "skipped: gs:// (no gcloud on this machine; see cloud.google.com/sdk)"
  exit 0
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
gcp-storage-emulator start --host 127.0.0.1 --port "$port" --in-memory --default-bucket jobs > gcs.log 2>&1 &
running+=($!)
until_so "the emulator" curl -sf "http://127.0.0.1:$port/storage/v1/b/jobs"
told 5 "hint: give \`gcloud\` credentials" "$ostler" check gs://jobs/a.yaml
export CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE="http://127.0.0.1:$port/storage/v1/" CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true
put() {
  curl -sf -o /dev/null -X POST -H 'Content-Type: application/octet-stream' --data-binary "@$1" \
    "http://127.0.0.1:$port/upload/storage/v1/b/jobs/o?uploadType=media&name=${2//\//%2F}"
}
checks gs "matched no objects" "not found: 404"
