#!/usr/bin/env bash
# Installs what is missing, builds and runs every test. Arguments go to ctest (e.g. -R tokenizer, -L unit).
# usage: tools/test.sh [CTEST ARGUMENTS...]     ($LUKV_PRESET: another preset than release)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

preset=${LUKV_PRESET:-release}
install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset "$preset"
say "running the tests"
cd "$root"
LUKV_MODEL_DIR=$(dirname "$model") ctest --preset "$preset" -j 2 "$@"
