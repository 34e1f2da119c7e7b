#!/usr/bin/env bash
# From a clean machine to a streamed answer: installs what is missing, obtains the demo model, builds, starts the server
# on a free loopback port, asks a question about a long text, once with the full cache and once with the LU-KV default,
# prints what each took and the server's metrics, stops.
# usage: tools/quickstart.sh [--serve]     --serve: leaves the server running in the foreground (Ctrl-C ends it)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/common.sh"

serve=
case "${1:-}" in
  "") ;;
  --serve) serve=1 ;;
  -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
  *) die "unknown argument $1 (--serve or nothing)" ;;
esac

install_build_dependencies
model=$("$root/tools/get-demo-model.sh")
build_preset release lukv-server lukv-client >&2
bin=$root/build/release/bin

work=$(mktemp -d)
server_pid=
stop_server() {
  if [ -n "$server_pid" ] && kill -0 "$server_pid" 2>/dev/null; then
    kill -TERM "$server_pid"
    wait "$server_pid" || true
  fi
  rm -rf "$work"
}
trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "starting lukv-server on a free loopback port"
"$bin/lukv-server" --model "$model" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
  --ready-file "$work/ready.json" 2>"$work/server.log" &
server_pid=$!
for _ in $(seq 300); do
  [ -s "$work/ready.json" ] && break
  kill -0 "$server_pid" 2>/dev/null || { cat "$work/server.log" >&2; die "the server did not start"; }
  sleep 0.1
done
[ -s "$work/ready.json" ] || die "the server was not ready within 30 s"
address() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/ready.json" "$1"; }
server=$(address listen)
metrics=$(address metrics)
"$bin/lukv-client" health --server "$server" >&2

# A long text that is at hand: the chronicle of a village, about 5,800 tokens. It is the context: compressed head by head
# while it is prefilled, before the question is seen. Its answer stands in the text's second paragraph.
context=$root/tools/eval/data/chronicle.txt
question='

Question: How far is it from Embry to Carrow by the cart road?
Answer: From Embry to Carrow it is nine miles on foot and'
ask() {
  say "asking about a chronicle of $(wc -w <"$context") words: $1"
  shift
  printf '%s' "${question#$'\n\n'}"
  "$bin/lukv-client" --server "$server" --context-file "$context" --prompt "$question" --max-tokens 16 \
    --temperature 0 --stop $'\n' --stream "$@"
}
ask "full cache" --policy full
ask "the server's default, four fifths of the cache evicted"

say "some of http://$metrics/metrics"
curl --silent --fail "http://$metrics/metrics" >"$work/metrics.txt"
grep -E '^(vllm:(prompt_tokens_total|generation_tokens_total|kv_cache_usage_perc|time_to_first_token_seconds_(sum|count))|lukv_)' \
  "$work/metrics.txt" | grep -Ev "bucket|lukv_kv_layer" || true

if [ -n "$serve" ]; then
  say "serving on $server, metrics on http://$metrics/metrics; Ctrl-C ends it"
  say "try: $bin/lukv-client --server $server --chat 'What is gravity?' --stream"
  tail -f -n +1 --pid="$server_pid" "$work/server.log"
  wait "$server_pid"
fi
