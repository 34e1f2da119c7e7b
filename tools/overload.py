"""Twice the load that the server can take, and trouble of every kind; then: is all well? (called by overload.sh)"""
import argparse
import json
import math
import os
import sys
import tempfile
import time

from served import Load, Server, Verdicts

# What the requests look like. Contexts that come again, short and long prompts, two priorities; answers long enough
# for a slow reader to be parked.
REQUESTS = ["--prompt-tokens", "lognormal:200:0.6", "--output-tokens", "uniform:8:200", "--shared-contexts", 4,
            "--shared-share", 0.3, "--question-tokens", 32, "--priority-mix", "0:9,5:1"]
TROUBLE = ["--cancel-share", 0.1, "--deadline-share", 0.05, "--deadline", "1s", "--slow-readers-share", 0.05,
           "--slow-pause", "0.5s", "--kill-every", "1s", "--connections", 32]
# The queue is short, so that most of what is too much is refused at once and not kept waiting.
SERVER_FLAGS = ["--max-sequences", "16", "--max-queued-requests", "32"]
# Resident memory after warm-up may exceed its highest value during warm-up by so much: the allocator's slack.
RSS_FACTOR, RSS_SLACK_MIB = 1.05, 16


def overload(args, server, rate):
    """(what lukv-bench found, [(seconds, RSS in MiB)], whether the server lived)"""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        file, text_file = os.path.join(folder, "overload.json"), os.path.join(folder, "text")
        run = Load(args.bench, server).start(*REQUESTS, *TROUBLE, "--rate", rate, "--duration", f"{args.seconds}s",
                                             "--drain", "300s", "--seed", args.seed,
                                             *(["--plot", args.plot] if args.plot else []), json_file=file,
                                             text_file=text_file)
        start = time.monotonic()
        while run.poll() is None:
            if server.process.poll() is not None:
                run.kill()
                break
            samples.append((time.monotonic() - start, server.rss_mib()))
            time.sleep(0.5)
        run.wait()
        with open(text_file) as text:
            print(text.read(), file=sys.stderr, flush=True)
        if not os.path.exists(file):
            return None, samples
        with open(file) as result:
            return json.load(result), samples


def check_memory(args, samples, verdicts):
    minutes = {}
    for seconds, rss in samples:
        minutes[int(seconds // 60)] = max(minutes.get(int(seconds // 60), 0), rss)
    verdicts.note("RSS by minute, MiB: " + ", ".join(f"{rss:.0f}" for rss in minutes.values()))
    warm_up = min(120, args.seconds / 3)
    before = max((rss for seconds, rss in samples if seconds <= warm_up), default=0)
    after = max((rss for seconds, rss in samples if seconds > warm_up), default=0)
    if args.sanitized:
        verdicts.note("RSS is not judged: a sanitizer keeps freed memory")
        return
    verdicts.add(after <= before * RSS_FACTOR + RSS_SLACK_MIB,
                 f"memory: at most {before:.0f} MiB in the first {warm_up:.0f} s, {after:.0f} MiB later "
                 f"(allowed: {100 * (RSS_FACTOR - 1):.0f} % + {RSS_SLACK_MIB} MiB)")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="lukv-server; may be built with a sanitizer")
    parser.add_argument("--bench", required=True)
    folder = os.environ.get("LUKV_MODEL_DIR", os.path.expanduser("~/.cache/lukv"))
    parser.add_argument("--model", default=os.path.join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kv-memory", default="48MiB")
    parser.add_argument("--eviction", default="auto")
    parser.add_argument("--generation-reserve", type=int, default=16, help="small: sequences outgrow it and preempt others")
    parser.add_argument("--sanitized", action="store_true", help="do not judge RSS")
    parser.add_argument("--plot")
    args = parser.parse_args()
    verdicts = Verdicts()
    flags = [*SERVER_FLAGS, "--kv-memory", args.kv_memory, "--eviction", args.eviction,
             "--generation-reserve", str(args.generation_reserve)]
    with Server(args.server, args.model, flags) as server:
        seconds = min(30, max(5, args.seconds / 6))
        capacity = Load(args.bench, server).run(*REQUESTS, "--concurrency", 16, "--duration", f"{seconds:.0f}s",
                                                "--drain", "300s", quiet=True)
        rate = 2 * capacity["requests_per_s"]
        verdicts.note(f"capacity {capacity['requests_per_s']:.2f} requests/s with 16 in flight; overload at "
                      f"{rate:.2f}/s for {args.seconds:.0f} s")
        verdicts.add(not capacity["findings"], f"capacity run: findings {capacity['findings']}")
        result, samples = overload(args, server, rate)
        alive = server.process.poll() is None
        verdicts.add(alive, "the server lives" if alive else f"the server died: {server.log_tail()}")
        if alive:
            used = math.nan
            for _ in range(60):
                used = server.metric("lukv_kv_pages_used")
                if used == 0:
                    break
                time.sleep(0.5)
            verdicts.add(used == 0, f"KV pages in use at the end: {used:.0f}")
            code = server.stop()
            verdicts.add(code == 0, f"exit code after SIGTERM: {code}")
            if code != 0:
                print(server.log_tail(), file=sys.stderr)
        if result is None:
            verdicts.add(False, "lukv-bench did not report")
        else:
            verdicts.add(not result["findings"],
                         f"{result['sent']} requests ended with OK or a stated status, the counters add up: "
                         f"{result['endings']}, refused {result['refusals']}" if not result["findings"]
                         else f"findings: {result['findings']}")
            verdicts.note(f"connections killed {result['connections_killed']}, pages at most "
                          f"{result['server']['pages_used_peak']:.0f} of {result['server']['pages_total']:.0f}, "
                          f"preemptions {result['server']['preemptions']}, parked at most "
                          f"{result['server']['parked_peak']}")
            check_memory(args, samples, verdicts)
    sys.exit(1 if verdicts.missed else 0)


if __name__ == "__main__":
    main()
