#!/usr/bin/env bash
# Throughput against llama.cpp's llama-server: the same model file, threads, KV memory and requests of 8 clients; the two
# run in turns, medians are compared. Both servers are there all the time; the one that is not asked does nothing.
#   1k: prompts of 1,000 tokens, memory for 8 full contexts, eviction off: >= 1.5x
#   6k: prompts of 6,000 tokens, memory for 4 full contexts (llama-server: 4 slots, the others wait), 80 % evicted: >= 3x
# usage: tools/compare-llama-server.sh [--case 1k|6k] [--runs N] [--requests N] [--threads N]   (3 runs of 16, 2 threads)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

case "${1:-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
peers=$("$root/tools/build-llama.sh")
build_preset release lukv-server lukv-bench >&2
bin=$root/build/release/bin
exec python3 "$root/tools/compare_llama_server.py" --server "$bin/lukv-server" --bench "$bin/lukv-bench" \
  --llama-server "$peers/llama-server" --model "$model" "$@"
