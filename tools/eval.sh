#!/usr/bin/env bash
# Quality of eviction on the demo model, as Markdown tables: RULER's needle tasks under every scorer and allocator, and
# the negative log-likelihood of a long text's continuation. The context is always compressed without the question.
# usage: tools/eval.sh [--quick] [--samples N] [--threads N] [--out DIR]
#   --quick      a look in a minute or two: one length, one ratio, 2 samples a task
#   --samples N  of each needle task at each length (default 5)
#   --out DIR    also write needle.json, nll.json and pictures there
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

lengths=1500,3000
ratios=0.5,0.8,0.9
samples=5
nll_samples=3
threads=0
out=
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) lengths=1500 ratios=0.8 samples=2 nll_samples=1; shift ;;
    --samples) samples=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown argument $1" ;;
  esac
done

policies=full
for scorer in expected_attention snapkv keydiff; do
  for allocator in uniform pyramidkv adakv lukv; do policies+=,$allocator+$scorer; done
done

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset release lukv-eval >&2
evaluate() {
  local name=$1
  shift
  "$root/build/release/bin/lukv-eval" --model "$model" --threads "$threads" --policies "$policies" "$@" \
    ${out:+--json "$out/$name.json" --plot "$out"}
}

say "needle tasks at $lengths tokens, $ratios removed"
evaluate needle --tasks needle --length "$lengths" --samples "$samples" --ratios "$ratios"
say "continuation of a text after 4,096 tokens"
echo
evaluate nll --tasks nll --length 4096 --samples "$nll_samples" --ratios 0.8
