"""Runs lukv-bench and llama-bench in turns on one model file and prints medians and ratios (called by bench.sh)."""
import argparse
import json
import os
import statistics
import subprocess
import sys

PREFILL = [512, 2048]
DECODE = [512, 4096]
GEN = 32


def run_json(command):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def lukv(args, prompt, gen):
    """(prefill, decode) in tokens/s; one run."""
    result = run_json([args.lukv, "--model", args.model, "--threads", str(args.threads), "--prompt", str(prompt),
                       "--gen", str(gen), "--repeat", "1", "--json"])
    return result["prefill_tokens_per_s"]["median"], result["decode_tokens_per_s"]["median"]


def llama(args, extra):
    result = run_json([args.peer, "-m", args.model, "-t", str(args.threads), "-fa", "1", "-r", "1", "-o", "json"] + extra)
    return result[-1]["avg_ts"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lukv", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    have_peer = os.access(args.peer, os.X_OK)
    if not have_peer:
        print(f"no llama-bench at {args.peer}: lukv's own figures only", file=sys.stderr)

    cases = [("prefill", n) for n in PREFILL] + [("decode", n) for n in DECODE]
    samples = {case: {"lukv": [], "llama.cpp": []} for case in cases}
    for run in range(args.runs):
        for kind, n in cases:
            print(f"\rrun {run + 1}/{args.runs}: {kind} {n}      ", end="", file=sys.stderr, flush=True)
            prefill, decode = lukv(args, n, 0 if kind == "prefill" else GEN)
            samples[kind, n]["lukv"].append(prefill if kind == "prefill" else decode)
            if have_peer:
                extra = ["-p", str(n), "-n", "0"] if kind == "prefill" else ["-p", "0", "-n", str(GEN), "-d", str(n)]
                samples[kind, n]["llama.cpp"].append(llama(args, extra))
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)

    print(f"{'tokens/s, ' + str(args.threads) + ' threads':<24}{'lukv':>10}{'llama.cpp':>12}{'ratio':>8}   (median of "
          f"{args.runs}; range)")
    rows = []
    for kind, n in cases:
        ours = samples[kind, n]["lukv"]
        theirs = samples[kind, n]["llama.cpp"]
        row = {"measure": kind, "tokens": n, "lukv": ours, "llama.cpp": theirs}
        rows.append(row)
        name = f"{kind} {n}" if kind == "prefill" else f"decode at {n}"
        line = f"{name:<24}{statistics.median(ours):>10.1f}"
        if theirs:
            ratio = statistics.median(ours) / statistics.median(theirs)
            line += f"{statistics.median(theirs):>12.1f}{ratio:>7.2f}x"
            line += f"   ({min(ours):.0f}-{max(ours):.0f} / {min(theirs):.0f}-{max(theirs):.0f})"
        print(line)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
