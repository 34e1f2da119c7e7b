#!/usr/bin/env bash
# Checks a build on a machine with a CUDA device, and measures it there: the conformance suite, then lukv-bench with
# random weights of an 8B model at two prompt lengths and, where it is at hand, with the demo model. 8 minutes at most.
# Nothing is built. What is measured goes into RESULTS: device.txt, conformance.txt, *.json; a summary is printed.
# usage: tools/gpu-check.sh [BUILD_FOLDER [RESULTS]]     (build/release; $OUT or gpu-check)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

build=$(realpath -m "${1:-$root/build/release}")
results=$(realpath -m "${2:-${OUT:-gpu-check}}")
module=$build/lib/lukv/liblukv_cuda.so
bench=$build/bin/lukv-bench
deadline=$((SECONDS + 480))
failed=()

for file in "$module" "$bench" "$build/tests/conformance_test"; do
  [ -e "$file" ] || die "$file is not there: build lukv_cuda, lukv-bench and conformance_test first"
done
command -v nvidia-smi >/dev/null || die "there is no CUDA device on this machine (no nvidia-smi)"
device=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1) ||
  die "there is no CUDA device on this machine (nvidia-smi says: $device)"
export LUKV_CUDA_LIBRARY=$module

# run NAME SECONDS COMMAND...: its output goes to RESULTS/NAME. No longer than SECONDS, nor than what is left.
run() {
  local name=$1 limit=$2 left=$((deadline - SECONDS)) code=0
  shift 2
  say "${name%.*}: $*"
  if [ $left -lt 5 ]; then
    failed+=("$name (no time left)")
    return
  fi
  timeout --kill-after=5 $((limit < left ? limit : left)) "$@" >"$results/$name" 2>"$results/$name.stderr" || code=$?
  [ -s "$results/$name.stderr" ] && tail -n 5 "$results/$name.stderr" >&2 || rm "$results/$name.stderr"
  if [ $code != 0 ]; then
    failed+=("$name (exit code $code)")
    tail -n 40 "$results/$name"
  fi
}

mkdir -p "$results"
say "device: $device"
printf '%s\n' "$device" >"$results/device.txt"
run conformance.txt 240 "$build/tests/conformance_test" --gtest_brief=1
tail -n 2 "$results/conformance.txt"
llama=("$bench" --device cuda --dummy-weights llama-3.1-8b --prefill-chunk 2048 --json)
run llama-3.1-8b-8k-batch-8.json 120 "${llama[@]}" --prompt 8192 --batch 8 --gen 64 --repeat 2
run llama-3.1-8b-32k.json 120 "${llama[@]}" --prompt 32768 --gen 32 --repeat 1
model=${LUKV_MODEL_DIR:-$HOME/.cache/lukv}/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -f "$model" ]; then
  run demo-model.json 60 "$bench" --device cuda --model "$model" --ops --prompt 4096 --gen 64 --json
else
  say "no demo model here (tools/get-demo-model.sh): left out"
fi

python3 - "$results" <<'END'
import json, pathlib, sys
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    try:
        run = json.loads(file.read_text())
    except ValueError:
        continue
    print(f"{file.stem} on {run['device']}: prefill {run['prefill_tokens_per_s']['median']:.0f} tokens/s, decode "
          f"{run['decode_tokens_per_s']['median']:.0f} tokens/s; copy {run['copy_bytes_per_s'] / 1e9:.0f} GB/s, "
          f"product {run['product_flops_per_s'] / 1e12:.1f} TFLOP/s")
    for phase, ops in run["ops"].items():
        for op in sorted(ops, key=lambda op: -op["seconds"])[:4]:
            print(f"  {phase:28} {op['op']:24} {1e3 * op['seconds']:10.3f} ms {op['bytes_per_s'] / 1e9:9.1f} GB/s "
                  f"{op['flops_per_s'] / 1e12:8.2f} TFLOP/s")
END
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
say "all of it passed in $SECONDS s; results in $results"
