#!/usr/bin/env bash
# Sends the demo model's server twice the load that it can take, for minutes, with 10 % of the requests cancelled, 5 %
# with a deadline that they miss, 5 % slow readers and a client killed every second. Then: no crash, every request ended
# with OK or a stated status, the server's counters agree with the clients', no KV page in use, memory flat.
# usage: tools/overload.sh [MINUTES] [--plot FILE.svg]     (default: 10 minutes)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

case "${1:-}" in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
minutes=10
case "${1:-}" in [0-9]*) minutes=$1; shift ;; esac

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset release lukv-server lukv-bench >&2
bin=$root/build/release/bin
exec python3 "$root/tools/overload.py" --server "$bin/lukv-server" --bench "$bin/lukv-bench" --model "$model" \
  --seconds "$(python3 -c 'import sys; print(float(sys.argv[1]) * 60)' "$minutes")" "$@"
