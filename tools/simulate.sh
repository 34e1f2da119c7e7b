#!/bin/bash
# The engine on a virtual clock with a modelled device: REQUESTS (a million by default) in seeds of 60, over all cores.
# Prints what happened and what was checked; a seed that fails is printed with the command that runs it again.
#   tools/simulate.sh [REQUESTS [FIRST_SEED]]
set -euo pipefail
cd "$(dirname "$0")/.."
requests=${1:-1000000}
first=${2:-1}
cmake --preset release >/dev/null
cmake --build --preset release --target lukv-simulate >/dev/null
exec build/release/bin/lukv-simulate --seed "$first" --seeds $(((requests + 59) / 60)) --requests 60 --jobs "$(nproc)"
