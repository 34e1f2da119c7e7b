#!/usr/bin/env python3
"""Prints what a policy saves in speed and memory against the full cache: lukv-bench runs both in turns, medians count."""
import argparse
import json
import statistics
import subprocess


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=7900)
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--policy", required=True)
    args = parser.parse_args()

    policies = ["full", args.policy]
    results = {policy: [] for policy in policies}
    for _ in range(args.runs):
        for policy in policies:
            command = [args.bench, "--model", args.model, "--threads", str(args.threads), "--prompt", str(args.prompt),
                       "--gen", str(args.gen), "--repeat", "1", "--policy", policy, "--json"]
            results[policy].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))

    def median(policy, key, part="median"):
        values = [r[key][part] if isinstance(r[key], dict) else r[key] for r in results[policy]]
        return statistics.median(values)

    full, evicted = policies
    rows = [
        ("decode, tokens/s", "decode_tokens_per_s", "%.1f"),
        ("prefill, tokens/s", "prefill_tokens_per_s", "%.0f"),
        ("KV resident, MiB", "kv_bytes_resident", "%.1f"),
    ]
    print(f"| {args.prompt} + {args.gen} tokens, median of {args.runs} | full | {evicted} | ratio |")
    print("|---|---:|---:|---:|")
    for name, key, form in rows:
        scale = 1 / 2**20 if key == "kv_bytes_resident" else 1
        a, b = median(full, key) * scale, median(evicted, key) * scale
        print(f"| {name} | {form % a} | {form % b} | {b / a:.3f} |")
    print(f"| eviction, part of the prefill's time | | {100 * median(evicted, 'eviction_share'):.2f} % | |")


if __name__ == "__main__":
    main()
