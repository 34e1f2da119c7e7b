#!/usr/bin/env bash
# Runs clang-tidy (.clang-tidy) on the part of the tree that needs no heavy headers, as CI does. Not on the emulator,
# which defines CUDA's own names for kernels compiled by GCC.
# usage: tools/tidy.sh [FILE...]     Needs build/release/compile_commands.json (or asan's).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"
cd "$root"

database=
for preset in release asan; do
  [ -f "build/$preset/compile_commands.json" ] && database=build/$preset
done
[ -n "$database" ] || die "configure a preset first: cmake --preset release"
if [ $# -gt 0 ]; then
  files=("$@")
else
  mapfile -t files < <(git ls-files 'engine/kv/*.cc' 'engine/sample/*.cc' 'engine/schedule/*.cc' 'engine/*.cc' 'kernels/*.cc' |
    grep -v '^kernels/\(cpu\|emulator\)/' | grep -v '^engine/\(model\|tokenizer\)/' | sort -u)
fi
# The database has GCC's flags in it.
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p "$database" \
  --extra-arg=-Wno-unknown-warning-option --warnings-as-errors='*' 2>/dev/null
