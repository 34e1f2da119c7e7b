#!/usr/bin/env bash
# Speed against llama.cpp and OpenVINO GenAI on the same model file and threads: all run in turns, medians are compared.
# A ratio is against the faster of the two. The peers are built and installed on the first run (long); exit code 1 if a
# promise is missed.
# usage: tools/bench.sh [--runs N] [--threads N] [--lengths N,N,...] [--no-peers] [--json FILE] [--plot FILE.svg]
#   --runs N     interleaved runs of each (default 5, which takes half an hour)
#   --lengths    contexts (default 128,512,2048,4096,7900)
#   --no-peers   lukv's own figures only
#   --plot       a picture of tokens/s over the context, with half and four fifths of it evicted, too
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

threads=$(nproc)
peers=yes
python=python3
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --threads) threads=$2; shift 2 ;;
    --plot) install_packages python3-matplotlib; python=/usr/bin/python3; arguments+=("$1" "$2"); shift 2 ;;
    --runs | --lengths | --json) arguments+=("$1" "$2"); shift 2 ;;
    --no-peers) peers=; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown argument $1" ;;
  esac
done

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset release lukv-bench >&2
folder=/nonexistent
if [ -n "$peers" ]; then
  folder=$("$root/tools/build-llama.sh")
  venv=$(dirname "$folder")/venv-openvino
  if ! "$venv/bin/python" -c 'import openvino_genai' 2>/dev/null; then
    say "installing OpenVINO GenAI in $venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check openvino-genai numpy >&2
  fi
  arguments+=(--openvino "$venv/bin/python")
fi
exec "$python" "$root/tools/bench_compare.py" --lukv "$root/build/release/bin/lukv-bench" --peers "$folder" \
  --model "$model" --threads "$threads" "${arguments[@]}"
