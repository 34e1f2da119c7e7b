#!/usr/bin/env bash
# Runs two servers with the demo model as workers of the gateway smg, and the openai client against it: that what
# others speak to lukv-server works with the real programs. All on loopback. The two programs are Python packages,
# pinned here, which are kept in a virtual environment.
# usage: tools/gateway-test.sh [BUILD_FOLDER [ARGUMENTS OF unittest]]
#        (build/release; $LUKV_PEERS_DIR: where the environment is; default ~/.cache/lukv-peers)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

packages=(smg==1.13.0 openai==3.57.0)
build=$(realpath -m "${1:-$root/build/release}")
shift || true
server=$build/bin/lukv-server
[ -x "$server" ] || die "$server is not there; build it first (tools/quickstart.sh, or cmake --build --preset release)"
venv=${LUKV_PEERS_DIR:-$HOME/.cache/lukv-peers}/venv-gateway
# Written last, so that what was not finished is made again.
if [ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]}" ]; then
  say "installing ${packages[*]}"
  rm -rf "$venv"
  mkdir -p "$(dirname "$venv")"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
  echo "${packages[*]}" >"$venv/packages"
fi
LUKV_SERVER=$server LUKV_DEMO_MODEL=$("$root/tools/get-demo-model.sh") \
  exec "$venv/bin/python" "$root/tests/e2e/gateway/gateway_test.py" "$@"
