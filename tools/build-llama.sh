#!/usr/bin/env bash
# Builds llama.cpp's llama-bench, llama-batched-bench and llama-server, natively for this machine, from the source package that
# llama-cpp-python publishes: for measurements side by side. Takes long the first time; prints the programs' folder.
# usage: tools/build-llama.sh     ($LUKV_PEERS_DIR: where it is kept; default ~/.cache/lukv-peers)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

dir=${LUKV_PEERS_DIR:-$HOME/.cache/lukv-peers}
version=0.3.36
mkdir -p "$dir"
cd "$dir"
if [ ! -x bin/llama-server ] || [ ! -x bin/llama-bench ] || [ ! -x bin/llama-batched-bench ]; then
  say "building llama.cpp in $dir"
  source=llama_cpp_python-$version
  [ -f "$source.tar.gz" ] ||
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: -d . \
      "llama-cpp-python==$version" >&2
  [ -d "$source" ] || tar xzf "$source.tar.gz"
  cmake -S "$source/vendor/llama.cpp" -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF -DBUILD_SHARED_LIBS=OFF >&2
  nice cmake --build build -j"$(nproc)" --target llama-bench llama-batched-bench llama-server >&2
  mkdir -p bin
  cp build/bin/llama-bench build/bin/llama-batched-bench build/bin/llama-server bin/
fi
echo "$dir/bin"
