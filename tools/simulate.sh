#!/usr/bin/env bash
# The engine on a virtual clock with a modelled device: REQUESTS (a million by default) in seeds of 60, over all cores.
# Prints what happened and what was checked; a seed that fails is printed with the command that runs it again.
# usage: tools/simulate.sh [REQUESTS [FIRST_SEED]]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

case "${1:-}" in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
requests=${1:-1000000}
first=${2:-1}
[[ $requests =~ ^[1-9][0-9]*$ && $first =~ ^[0-9]+$ ]] || die "wants numbers (see --help)"
install_build_dependencies
build_preset release lukv-simulate >&2
exec "$root/build/release/bin/lukv-simulate" --seed "$first" --seeds $(((requests + 59) / 60)) --requests 60 \
  --jobs "$(nproc)"
