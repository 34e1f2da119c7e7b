"""Draws what bench_compare.py measured: tokens/s over the length of the context."""
import statistics

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402: after the choice above


def write(rows, path):
    matplotlib.rcParams["svg.hashsalt"] = "lukv"  # The same values make the same file.
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    for axis, what, title in zip(axes, ("prefill", "decode"), ("Prefill", "Decode after a context")):
        lines = {}
        for row in rows:
            if row["measure"] == what:
                lines.setdefault(row["engine"], []).append((row["tokens"], statistics.median(row["values"])))
        for engine, points in lines.items():
            points.sort()
            axis.plot(*zip(*points), marker="o", label=engine)
        axis.set_title(title)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xticks(sorted({row["tokens"] for row in rows if row["measure"] == what}))
        axis.minorticks_off()
        axis.set_xlabel("context, tokens")
        axis.set_ylabel("tokens/s")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
