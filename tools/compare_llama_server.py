"""lukv-server and llama.cpp's llama-server in turns on the same requests (called by compare-llama-server.sh)."""
import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from served import Load, Server, Verdicts

# Bytes of one token's entries in the demo model's full cache, 16 bits an element on both sides.
KV_BYTES_PER_TOKEN = 30 * 3 * 64 * 2 * 2
# Tokens of room beyond a request's own: both sides round up.
SLACK = 64
OUTPUT = 64


class LlamaServer:
    """llama-server with `slots` sequences at once, each with an equal part of the KV memory."""

    def __init__(self, binary, model, threads, slots, tokens):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = tempfile.NamedTemporaryFile(mode="w+", prefix="llama-server-")
        self.process = subprocess.Popen(
            [binary, "-m", model, "--host", "127.0.0.1", "--port", str(self.port), "-t", str(threads), "-tb",
             str(threads), "-c", str(tokens), "-np", str(slots), "-fa", "on", "-cram", "0"],
            stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 120
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.log.seek(0)
                sys.exit("llama-server did not start:\n" + "".join(self.log.readlines()[-20:]))
            try:
                if self.request("GET", "/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3600)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, data

    def vocabulary(self):
        return json.loads(self.request("GET", "/v1/models")[1])["data"][0]["meta"]["n_vocab"]

    def run(self, clients, requests, prompt, seed):
        """Closed loop; (prompt tokens + output tokens, seconds)."""
        draw = random.Random(seed)
        vocabulary = self.vocabulary()
        bodies = [json.dumps({"prompt": [draw.randrange(vocabulary) for _ in range(prompt)], "n_predict": OUTPUT,
                              "ignore_eos": True, "temperature": 0, "cache_prompt": False, "stream": False})
                  for _ in range(requests)]
        lock = threading.Lock()
        tokens, failures = [0], []

        def client():
            while True:
                with lock:
                    if not bodies or failures:
                        return
                    body = bodies.pop()
                status, data = self.request("POST", "/completion", body)
                answer = json.loads(data)
                with lock:
                    if status != 200 or answer["tokens_predicted"] != OUTPUT or answer["tokens_evaluated"] != prompt:
                        failures.append((status, data[:300]))
                    else:
                        tokens[0] += prompt + OUTPUT

        start = time.monotonic()
        threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - start
        if failures:
            sys.exit(f"llama-server: {failures[0]}")
        return tokens[0], seconds


def lukv_run(load, clients, requests, prompt, policy, seed):
    result = load.run("--concurrency", clients, "--requests", requests, "--prompt-tokens", prompt, "--output-tokens",
                      OUTPUT, "--policy", policy, "--seed", seed, "--drain", "3600s", quiet=True)
    if result["findings"] or result["endings"] != {"ok": requests}:
        sys.exit(f"lukv-server: {result['endings']} {result['findings']}")
    return requests * (prompt + OUTPUT), result["seconds"]


def compare(args, prompt, policy, contexts, promised, verdicts):
    """`contexts`: so many full ones fit into the KV memory of both."""
    tokens = contexts * (prompt + OUTPUT + SLACK)
    slots = min(args.clients, contexts)
    memory = tokens * KV_BYTES_PER_TOKEN
    verdicts.note(f"{args.clients} clients, prompts of {prompt} random tokens, {OUTPUT} output tokens, {args.threads} "
                  f"threads, KV memory {memory / 2**20:.0f} MiB on both sides ({contexts} full contexts); "
                  f"lukv: {policy}")
    ours, theirs = [], []
    with Server(args.server, args.model, ["--threads", str(args.threads), "--kv-memory", str(memory)]) as server, \
            LlamaServer(args.llama_server, args.model, args.threads, slots, tokens) as llama:
        load = Load(args.bench, server)
        lukv_run(load, 1, 1, prompt, policy, 99)  # Touches the memory; does not count.
        llama.run(1, 1, prompt, 99)
        for run in range(args.runs):
            count, seconds = lukv_run(load, args.clients, args.requests, prompt, policy, run + 1)
            ours.append(count / seconds)
            count, seconds = llama.run(args.clients, args.requests, prompt, run + 1)
            theirs.append(count / seconds)
            print(f"run {run + 1}: lukv {ours[-1]:.0f}, llama-server {theirs[-1]:.0f} tokens/s", file=sys.stderr,
                  flush=True)
    ratio = statistics.median(ours) / statistics.median(theirs)
    verdicts.add(ratio >= promised,
                 f"prompts of {prompt}, {policy}: prompt and output tokens/s {statistics.median(ours):.0f} "
                 f"({min(ours):.0f}-{max(ours):.0f}), llama-server {statistics.median(theirs):.0f} "
                 f"({min(theirs):.0f}-{max(theirs):.0f}): {ratio:.2f}x, promised >= {promised}x "
                 f"(medians of {args.runs} runs of {args.requests} requests)")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--llama-server", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=16, help="in each run")
    parser.add_argument("--case", choices=["1k", "6k"], action="append", help="default: both")
    args = parser.parse_args()
    if not os.access(args.llama_server, os.X_OK):
        sys.exit(f"no llama-server at {args.llama_server}")
    verdicts = Verdicts()
    cases = args.case or ["1k", "6k"]
    if "1k" in cases:
        compare(args, 1000, "full", args.clients, 1.5, verdicts)
    if "6k" in cases:
        compare(args, 6000, "lukv+expected_attention@0.8", 4, 3, verdicts)
    sys.exit(1 if verdicts.missed else 0)


if __name__ == "__main__":
    main()
