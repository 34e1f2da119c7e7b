#!/usr/bin/env bash
# What the server promises under load, measured on the demo model; PASS or MISS for each.
# usage: tools/load.sh [intruder] [contexts] [overload] [capacity] [strangers]     (default: the first three, 5 minutes)
#   intruder   pauses of eight streams (1k contexts) while a prompt of 6k tokens comes in, against before: <= 2x
#   contexts   a 3k context asked 8 times: first token of the times 2 to 8 within 15 % of the first
#   overload   one minute of tools/overload.sh
#   capacity   KV memory for four full contexts of 6k tokens, 16 clients that ask 16 of them: >= 16 run at once with
#              80 % evicted, >= 2.5x requests a minute than with the full cache (about 10 minutes)
#   strangers  the same memory, every prompt another one, 1,024 tokens an answer: the same figures (about 15 minutes)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

case "${1:-}" in -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ $# -gt 0 ] || set -- intruder contexts overload

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset release lukv-server lukv-bench >&2
bin=$root/build/release/bin

missed=0
for figure in "$@"; do
  say "$figure"
  case "$figure" in
    overload)
      python3 "$root/tools/overload.py" --server "$bin/lukv-server" --bench "$bin/lukv-bench" --model "$model" \
        --seconds 60 || missed=1
      ;;
    intruder | contexts | capacity | strangers)
      python3 "$root/tools/load_figures.py" --server "$bin/lukv-server" --bench "$bin/lukv-bench" --model "$model" \
        "$figure" || missed=1
      ;;
    *) die "unknown figure $figure (see --help)" ;;
  esac
done
exit $missed
