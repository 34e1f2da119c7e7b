#!/usr/bin/env bash
# Speed against llama.cpp on the same model file and threads: the two run in turns, medians are compared.
# usage: tools/bench.sh [--runs N] [--threads N] [--peer DIR] [--json FILE]
#   --runs N     interleaved runs of each (default 5)
#   --peer DIR   folder with llama-bench, built for this machine (default: ~/.cache/lukv-peers/bin); without it only
#                lukv's own figures are printed
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

runs=5
threads=$(nproc)
peer=$HOME/.cache/lukv-peers/bin
json=
while [ $# -gt 0 ]; do
  case "$1" in
    --runs) runs=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --peer) peer=$2; shift 2 ;;
    --json) json=$2; shift 2 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown argument $1" ;;
  esac
done

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset release lukv-bench >&2
exec python3 "$root/tools/bench_compare.py" --lukv "$root/build/release/bin/lukv-bench" --peer "$peer/llama-bench" \
  --model "$model" --threads "$threads" --runs "$runs" ${json:+--json "$json"}
