"""Runs lukv-bench, llama.cpp and OpenVINO GenAI in turns on one model file and prints medians and ratios (called by
bench.sh)."""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys

GEN = 32
LENGTHS = [128, 512, 2048, 4096, 7900]
BATCH, BATCH_CONTEXT = 8, 1024
LLAMA, OPENVINO = "llama.cpp", "OpenVINO"
FULL, HALF, FIFTH = "lukv", "lukv 50 %", "lukv 80 %"


def policy(name):
    return {FULL: "full", HALF: "lukv+expected_attention@0.5", FIFTH: "lukv+expected_attention@0.8"}[name]


def run_json(command):
    """(what it printed as JSON, its peak resident MiB)"""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return out, usage.ru_maxrss / 1024


class Lukv:
    def __init__(self, args, name):
        self.args, self.name = args, name

    def single(self, n):
        """{measure: value} of one run."""
        # Compressed contexts are compared where they matter most; the plot wants them everywhere.
        if self.name != FULL and n != max(self.args.lengths) and not self.args.plot:
            return {}
        result, rss = self.run(n, 1)
        return {("prefill", n): result["prefill_tokens_per_s"]["median"],
                ("decode", n): result["decode_tokens_per_s"]["median"], ("RSS", n): rss}

    def batch(self):
        if self.name != FULL:
            return {}
        return {("batch", BATCH_CONTEXT): self.run(BATCH_CONTEXT, BATCH)[0]["decode_tokens_per_s"]["median"]}

    def run(self, n, batch):
        out, rss = run_json([self.args.lukv, "--model", self.args.model, "--threads", str(self.args.threads), "--prompt",
                             str(n), "--gen", str(GEN), "--batch", str(batch), "--repeat", "1", "--policy",
                             policy(self.name), "--json"])
        return json.loads(out), rss


class Llama:
    name = LLAMA

    def __init__(self, args):
        self.args = args

    def single(self, n):
        # Its run before the one that counts is worth it for short ones only; a long one takes a minute.
        common = [os.path.join(self.args.peers, "llama-bench"), "-m", self.args.model, "-t", str(self.args.threads), "-fa",
                  "1", "-r", "1", "-o", "json", *(["--no-warmup"] if n > 2048 else [])]
        prefill, _ = run_json([*common, "-p", str(n), "-n", "0"])
        decode, rss = run_json([*common, "-p", "0", "-n", str(GEN), "-d", str(n)])
        return {("prefill", n): json.loads(prefill)[-1]["avg_ts"], ("decode", n): json.loads(decode)[-1]["avg_ts"],
                ("RSS", n): rss}

    def batch(self):
        program = os.path.join(self.args.peers, "llama-batched-bench")
        if not os.access(program, os.X_OK):
            return {}
        out, _ = run_json([program, "-m", self.args.model, "-t", str(self.args.threads), "-tb", str(self.args.threads),
                           "-fa", "on", "-c", str(BATCH * (BATCH_CONTEXT + GEN)), "-npp", str(BATCH_CONTEXT), "-ntg",
                           str(GEN), "-npl", str(BATCH), "--output-format", "jsonl"])
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return {("batch", BATCH_CONTEXT): lines[-1]["speed_tg"]}


class OpenVino:
    """One process that stays; it does nothing while it is not asked."""
    name = OPENVINO

    def __init__(self, args):
        self.process = subprocess.Popen([args.openvino, os.path.join(os.path.dirname(__file__), "openvino_speed.py"),
                                         "--model", args.model, "--threads", str(args.threads), "--vocabulary", "49152"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        self.version = self.answer()["version"]
        self.ask(64)  # Compiles what it compiles lazily.

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit("OpenVINO's process ended")

    def ask(self, n):
        self.process.stdin.write(f"{n} {GEN}\n")
        self.process.stdin.flush()
        return self.answer()

    def single(self, n):
        result = self.ask(n)
        return {("prefill", n): result["prefill"], ("decode", n): result["decode"]}

    def batch(self):
        return {}


def measure(args, engines):
    """{(engine, measure, n): [values]}"""
    samples = {}
    order = random.Random(1)
    for run in range(args.runs):
        for n in [*args.lengths, "batch"]:
            for engine in order.sample(engines, len(engines)):
                print(f"\rrun {run + 1}/{args.runs}: {engine.name} {n}            ", end="", file=sys.stderr, flush=True)
                for (what, tokens), value in (engine.batch() if n == "batch" else engine.single(n)).items():
                    samples.setdefault((engine.name, what, tokens), []).append(value)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return samples


class Table:
    """Medians beside each other, and ratios beside what was promised."""

    def __init__(self, samples):
        self.samples, self.missed = samples, 0
        print(f"{'':<30}{'lukv':>9}{LLAMA:>11}{OPENVINO:>10}{'ratio':>8}  promised")

    def median(self, engine, what, n):
        values = self.samples.get((engine, what, n))
        return statistics.median(values) if values else None

    def row(self, name, what, n, promised=None, ours=FULL, peers=(LLAMA, OPENVINO), at_most=False):
        mine = self.median(ours, what, n)
        if mine is None:
            return
        values = {peer: self.median(peer, what, n) for peer in peers}
        known = [value for value in values.values() if value is not None]
        line = f"{name:<30}{mine:>9.1f}"
        line += "".join(f"{values.get(peer) or 0:>{width}.1f}" if values.get(peer) else " " * width
                        for peer, width in ((LLAMA, 11), (OPENVINO, 10)))
        if known:
            ratio = mine / (min(known) if at_most else max(known))
            line += f"{ratio:>7.2f}x"
            if promised is not None:
                good = ratio <= promised if at_most else ratio >= promised
                self.missed += 0 if good else 1
                line += f"  {'<=' if at_most else '>='} {promised:g}x {'PASS' if good else 'MISS'}"
        low, high = min(self.samples[ours, what, n]), max(self.samples[ours, what, n])
        print(f"{line}   [{low:.0f}-{high:.0f}]")


def report(samples, lengths):
    table = Table(samples)
    for n in lengths:
        table.row(f"prefill {n}, tokens/s", "prefill", n, 1.1 if n in (512, 2048, 7900) else None)
    for n in lengths:
        promised = {128: 1.3, 4096: 1.5, 7900: 1.5}.get(n)
        table.row(f"decode at {n}, tokens/s", "decode", n, promised)
    longest = max(lengths)
    table.row(f"decode at {longest}, 80 % evicted", "decode", longest, 3 if longest == 7900 else None, ours=FIFTH)
    table.row(f"{BATCH} sequences at {BATCH_CONTEXT}, tokens/s", "batch", BATCH_CONTEXT, 2)
    table.row(f"peak RSS at {longest}, MiB", "RSS", longest, 1.1, at_most=True)
    table.row(f"peak RSS at {longest}, 80 % evicted", "RSS", longest, None, ours=FIFTH, at_most=True)
    return table.missed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lukv", required=True)
    parser.add_argument("--peers", required=True, help="folder with llama-bench and llama-batched-bench")
    parser.add_argument("--openvino", help="a Python that has openvino_genai")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--lengths", type=lambda text: [int(n) for n in text.split(",")], default=LENGTHS)
    parser.add_argument("--json")
    parser.add_argument("--plot")
    args = parser.parse_args()
    engines = [Lukv(args, FULL), Lukv(args, FIFTH)]
    if args.plot:
        engines.append(Lukv(args, HALF))
    if os.access(os.path.join(args.peers, "llama-bench"), os.X_OK):
        engines.append(Llama(args))
    if args.openvino:
        engines.append(OpenVino(args))
        print(f"OpenVINO GenAI {engines[-1].version}", file=sys.stderr)
    if len(engines) == 2:
        print("no peers: lukv's own figures only", file=sys.stderr)
    samples = measure(args, engines)
    print(f"{args.threads} threads, medians of {args.runs} interleaved runs [range of lukv's]")
    missed = report(samples, args.lengths)
    rows = [{"engine": engine, "measure": what, "tokens": n, "values": values}
            for (engine, what, n), values in samples.items()]
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)
    if args.plot:
        import bench_plot  # Beside this file.
        bench_plot.write(rows, args.plot)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
