#!/usr/bin/env bash
# What eviction costs and saves on the demo model, as Markdown tables: RULER's needle tasks, the likelihood of a long
# text's continuation, and speed and memory at 7,900 tokens. Some ten minutes on 2 cores; --quick: some three.
# usage: tools/eval.sh [--quick] [--threads N] [--json DIR] [--plot DIR]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

samples=3
runs=5
threads=$(nproc)
json=
plot=
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) samples=1; runs=1; shift ;;
    --threads) threads=$2; shift 2 ;;
    --json) json=$2; shift 2 ;;
    --plot) plot=$2; shift 2 ;;
    -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown argument $1" ;;
  esac
done

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset release lukv-eval lukv-bench >&2
bin=$root/build/release/bin
[ -z "$json" ] || mkdir -p "$json"

policies=full
for scorer in expected_attention snapkv keydiff; do
  for allocator in uniform pyramidkv adakv lukv; do
    policies=$policies,$allocator+$scorer
  done
done
evaluate() {
  local name=$1
  shift
  "$bin/lukv-eval" --model "$model" --threads "$threads" --seed 0 --policies "$policies" "$@" \
    ${json:+--json "$json/$name.json"} ${plot:+--plot "$plot"}
}

say "needle tasks, contexts compressed without their questions"
evaluate needle --tasks needle --length 1500,3000 --ratios 0.5,0.8,0.9 --samples "$samples"
say "likelihood of 512 tokens after 4,096 compressed ones"
printf '\n'
evaluate nll --tasks nll --length 4096 --ratios 0.8 --samples 3
say "speed and memory at 7,900 tokens"
printf '\n'
python3 "$root/tools/eval_speed.py" --bench "$bin/lukv-bench" --model "$model" --threads "$threads" --runs "$runs" \
  --policy lukv+expected_attention@0.8
