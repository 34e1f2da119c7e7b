"""Shows what the server promises under load (called by load.sh)."""
import argparse
import sys

from served import Load, Server, Verdicts

# Bytes of one token's entries in the demo model's full cache, bf16: 30 layers, 3 kv heads of 64, keys and values.
KV_BYTES_PER_TOKEN = 30 * 3 * 64 * 2 * 2


def intruder(args, verdicts):
    """Eight streams, each with a context of 1,000 tokens, decode when a prompt of 6,000 tokens arrives."""
    with Server(args.server, args.model, args.flags) as server:
        load = Load(args.bench, server)
        result = load.run("--concurrency", 8, "--requests", 8, "--prompt-tokens", 1000, "--output-tokens", 6000,
                          "--intruder-tokens", 6000, "--intruder-at", "40s", "--intruder-before", "5s",
                          "--drain", "600s")
    found = result["intruder"]
    before, during = found["itl_before"], found["itl_during"]
    decoded = f"{before['count']} and {during['count']} pauses"
    if found["others_prefilling"] > 0 or before["count"] == 0:
        verdicts.add(False, f"intruder: the streams did not all decode by then ({decoded}); nothing was shown")
        return
    verdicts.add(found["p99_ratio"] <= 2,
                 f"intruder: p99 inter-token latency {1e3 * before['p99']:.1f} ms before, {1e3 * during['p99']:.1f} ms "
                 f"during its prefill of {found['ttft']:.1f} s: {found['p99_ratio']:.2f}x, promised <= 2x ({decoded})")
    verdicts.note(f"p50 {1e3 * before['p50']:.1f} and {1e3 * during['p50']:.1f} ms, longest "
                  f"{1e3 * before['max']:.1f} and {1e3 * during['max']:.1f} ms")


def contexts(args, verdicts):
    """A context of 3,000 tokens is asked eight times, 64 tokens a question."""
    with Server(args.server, args.model, args.flags) as server:
        result = Load(args.bench, server).run(
            "--concurrency", 1, "--requests", 8, "--shared-contexts", 1, "--shared-share", 1, "--prompt-tokens", 3000,
            "--question-tokens", 64, "--output-tokens", 16)
    ttft = [request["ttft"] for request in result["requests"]]
    worst = max(ttft[1:])
    verdicts.add(worst <= 0.15 * ttft[0],
                 f"contexts: first token after {1e3 * ttft[0]:.0f} ms the first time, {1e3 * min(ttft[1:]):.0f} to "
                 f"{1e3 * worst:.0f} ms the times 2 to 8: {100 * worst / ttft[0]:.1f} % at worst, promised <= 15 %")


def compare(name, what, full, kept, policy, verdicts):
    peak = kept["server"]["running_peak"]
    verdicts.add(peak >= 16, f"{name}: {peak:.0f} {what} run at once with {policy} "
                 f"({full['server']['running_peak']:.0f} with the full cache), promised >= 16")
    rate = kept["requests_per_s"] / full["requests_per_s"]
    verdicts.add(rate >= 2.5, f"{name}: {60 * kept['requests_per_s']:.2f} requests a minute, "
                 f"{60 * full['requests_per_s']:.2f} with the full cache: {rate:.2f}x, promised >= 2.5x")


def capacity(args, verdicts):
    """KV memory for four full contexts of 6,000 tokens; 16 clients ask 16 such documents, again and again."""
    prompt, question, output = 6000, 32, 128
    flags = [*args.flags, "--kv-memory", str(4 * (prompt + question + output + 64) * KV_BYTES_PER_TOKEN)]
    results = {}
    with Server(args.server, args.model, flags) as server:
        load = Load(args.bench, server)
        for policy, warm_up, requests in (("full", 8, 16), (args.policy, 64, 160)):
            common = ["--concurrency", 16, "--shared-contexts", 16, "--shared-share", 1, "--prompt-tokens", prompt,
                      "--question-tokens", question, "--output-tokens", output, "--policy", policy, "--drain", "3600s"]
            load.run(*common, "--requests", warm_up)  # The same contexts: they come of the same seed.
            results[policy] = load.run(*common, "--requests", requests)
    compare("capacity", "sequences", results["full"], results[args.policy], args.policy, verdicts)


def strangers(args, verdicts):
    """The same memory; every request has a prompt of its own, so that each is prefilled."""
    prompt, output = 6000, 1024
    flags = [*args.flags, "--kv-memory", str(4 * (prompt + output + 64) * KV_BYTES_PER_TOKEN)]
    results = {}
    with Server(args.server, args.model, flags) as server:
        load = Load(args.bench, server)
        for policy, requests in (("full", 8), (args.policy, 32)):
            results[policy] = load.run("--concurrency", requests, "--requests", requests, "--prompt-tokens", prompt,
                                       "--output-tokens", output, "--policy", policy, "--drain", "3600s")
    compare("strangers", "prompts of their own", results["full"], results[args.policy], args.policy, verdicts)


SHOWN = {"intruder": intruder, "contexts": contexts, "capacity": capacity, "strangers": strangers}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--policy", default="lukv+expected_attention@0.8")
    parser.add_argument("--flag", dest="flags", action="append", default=[], help="of lukv-server; may be repeated")
    parser.add_argument("show", nargs="*", choices=[*SHOWN, []])
    args = parser.parse_args()
    verdicts = Verdicts()
    for name in args.show or SHOWN:
        SHOWN[name](args, verdicts)
    sys.exit(1 if verdicts.missed else 0)


if __name__ == "__main__":
    main()
