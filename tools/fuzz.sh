#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each, two at a time. Fails on a crash, a leak, memory out of bounds or an
# input that takes too long; the input is then left in build/fuzz/findings.
# usage: tools/fuzz.sh [SECONDS]     for each target; default 60
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

case "${1:-}" in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
seconds=${1:-60}
install_build_dependencies
install_packages clang-14 libclang-rt-14-dev
build_preset fuzz lukv_fuzzers
cd "$root"
findings=build/fuzz/findings
mkdir -p "$findings"

# What a run learns is kept for the next one, beside the seeds.
run_target() {
  local name=$1 learnt=build/fuzz/learnt/$1
  mkdir -p "$learnt"
  if build/fuzz/tests/fuzz_"$name" "$learnt" tests/fuzz/corpus/"$name" -max_total_time="$seconds" -timeout=10 \
    -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 -artifact_prefix="$findings/$name-" \
    >build/fuzz/"$name".log 2>&1; then
    printf '%-14s %12s executions\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' build/fuzz/"$name".log)"
  else
    tail -n 60 build/fuzz/"$name".log
    printf '%-14s FAILED; its inputs are %s/%s-*\n' "$name" "$findings" "$name"
    return 1
  fi
}
export -f run_target
export seconds findings
say "fuzzing for $seconds s each"
find tests/fuzz/corpus -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort |
  xargs -P 2 -I NAME bash -c 'run_target NAME'
