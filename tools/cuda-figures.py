#!/usr/bin/env python3
"""Static figures of the CUDA kernels, from a build folder that has the CUDA module and the emulated one: registers,
spills, stack and shared memory of each kernel as ptxas gave them, how it is launched, and how many blocks and warps of it
a multiprocessor can hold. Compares them with the table in kernels/cuda/figures.txt and fails with the difference;
--update writes the table. Fails as well when a kernel of attention spills, or needs more shared memory than a block may
have.

usage: tools/cuda-figures.py BUILD_FOLDER [--update] [--launches FILE]

Figures differ between versions of nvcc: with another one than the table's, only the rules are checked."""
import argparse
import difflib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "kernels/cuda/figures.txt"
# What launches every kernel, at the sizes that tell its needs.
TESTS = ["conformance_test", "engine_sampler_test"]

# CUDA C++ programming guide, "Technical specifications per compute capability": KiB of shared memory of a
# multiprocessor and of a block.
SHARED_KIB = {"sm_80": (164, 163), "sm_90": (228, 227), "sm_100": (228, 227)}
# The same on all three.
REGISTERS = 65536
REGISTER_UNIT = 256  # Of a warp
WARP_UNIT = 4  # Warps are spread over four schedulers.
WARPS = 64
BLOCKS = 32
RESERVED_SHARED = 1024  # Of each block
SHARED_UNIT = 128


def die(reason):
    sys.exit(f"cuda-figures.py: {reason}")


def round_up(value, unit):
    return -(-value // unit) * unit


def blocks_per_multiprocessor(arch, registers, threads, shared):
    """After NVIDIA's occupancy calculator. 0: a block does not fit."""
    warps = -(-threads // 32)
    by_registers = REGISTERS // round_up(registers * 32, REGISTER_UNIT) // WARP_UNIT * WARP_UNIT // warps
    of_multiprocessor, of_block = SHARED_KIB[arch]
    if shared > of_block * 1024:
        return 0
    by_shared = of_multiprocessor * 1024 // round_up(shared + RESERVED_SHARED, SHARED_UNIT)
    return min(BLOCKS, WARPS // warps, by_registers, by_shared)


def ptxas_figures(build):
    """{(symbol, architecture): figures}"""
    folder = build / "kernels/cuda/CMakeFiles/lukv_cuda.dir"
    sources = re.findall(r"^\s+(\S+\.cu)\b", (ROOT / "kernels/cuda/sources.cmake").read_text(), re.M)
    figures = {}
    for source in sources:
        messages = folder / f"{source}.o.ptxas"
        if not messages.exists():
            die(f"{messages} does not exist: build lukv_cuda")
        text = messages.read_text()
        kernels = re.split(r"Compiling entry function ", text)[1:]
        for kernel in kernels:
            symbol, arch = re.match(r"'(\S+)' for '(\S+)'", kernel).groups()
            stack, stores, loads = re.search(
                r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", kernel).groups()
            used = re.search(r"Used (\d+) registers.*", kernel)
            shared = re.search(r"(\d+) bytes smem", used.group(0))
            figures[symbol, arch] = {
                "source": source,
                "registers": int(used.group(1)),
                "spills": int(stores) + int(loads),
                "stack": int(stack),
                "static": int(shared.group(1)) if shared else 0,
            }
    if not figures:
        die(f"{folder} says nothing of kernels: build lukv_cuda again")
    return figures


def run_tests(build, log):
    """Writes what the tests launch on the emulated device to `log`."""
    module = build / "lib/liblukv_cuda_emulated.so"
    if not module.exists():
        die(f"{module} does not exist: build lukv_cuda_emulated")
    environment = dict(os.environ, LUKV_CUDA_LIBRARY=str(module), LUKV_EMULATOR_LAUNCHES=str(log))
    for test in TESTS:
        run = subprocess.run([build / "tests" / test, "--gtest_brief=1"], env=environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if run.returncode != 0:
            die(f"{test} fails on the emulated device:\n{run.stdout[-2000:]}")


def launches(log):
    """{symbol: {(threads, dynamic shared bytes)}}"""
    found = {}
    for line in log.read_text().splitlines():
        symbol, threads, dynamic, _ = line.split()
        found.setdefault(symbol, set()).add((int(threads), int(dynamic)))
    return found


def plain_names(symbols):
    """Demangled, template arguments kept, without the namespace and the parameters."""
    output = subprocess.run(["c++filt"], input="\n".join(symbols), text=True, stdout=subprocess.PIPE, check=True).stdout
    names = {}
    for symbol, name in zip(symbols, output.splitlines()):
        depth, end = 0, len(name)
        for end in range(len(name) - 1, -1, -1):
            depth += {")": 1, "(": -1}.get(name[end], 0)
            if depth == 0:
                break
        names[symbol] = name[:end].removeprefix("void ").replace("lukv::cuda::", "").replace("lukv::", "")
    return names


def compiler_version(build):
    for file in build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"):
        return re.search(r'CMAKE_CUDA_COMPILER_VERSION "([^"]+)"', file.read_text()).group(1)
    die(f"{build} was not configured with nvcc")


def rows_of(figures, launched):
    """Table rows, and what breaks a rule. Of several launches of a kernel the one that needs most counts."""
    names = plain_names(sorted({symbol for symbol, _ in figures}))
    rows, complaints = [], []
    for (symbol, arch), f in figures.items():
        name = names[symbol]
        if "attention" in f["source"] and f["spills"]:
            complaints.append(f"{name} ({f['source']}) spills {f['spills']} bytes on {arch}")
        launch = ["-"] * 4
        for dynamic, threads in sorted((dynamic, threads) for threads, dynamic in launched.get(symbol, ())):
            shared = f["static"] + dynamic
            blocks = blocks_per_multiprocessor(arch, f["registers"], threads, shared)
            if blocks == 0:
                complaints.append(f"{name} of {threads} threads and {shared} bytes of shared memory does not fit {arch}")
            launch = [threads, dynamic, blocks, blocks * -(-threads // 32)]
        rows.append([name, arch, f["registers"], f["spills"], f["stack"], f["static"], *launch])
    rows.sort(key=lambda row: (row[0], int(row[1].removeprefix("sm_"))))
    return [[str(cell) for cell in row] for row in rows], complaints


def table_text(version, rows):
    head = ["kernel", "arch", "registers", "spills", "stack", "static", "threads", "dynamic", "blocks", "warps"]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [f"nvcc {version}. Bytes of spills, stack and shared memory (static, dynamic); blocks and warps that a "
             "multiprocessor holds, of 64 warps. Made by tools/cuda-figures.py."]
    for row in [head, *rows]:
        cells = [row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in range(len(head))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path, metavar="BUILD_FOLDER")
    parser.add_argument("--update", action="store_true", help="write the table")
    parser.add_argument("--launches", type=pathlib.Path, metavar="FILE",
                        help=f"what {' and '.join(TESTS)} launched with LUKV_EMULATOR_LAUNCHES=FILE; without it they are "
                        "run now")
    arguments = parser.parse_args()
    build = arguments.build.resolve()

    version = compiler_version(build)
    figures = ptxas_figures(build)
    if arguments.launches:
        launched = launches(arguments.launches)
    else:
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder) / "launches"
            run_tests(build, log)
            launched = launches(log)
    rows, complaints = rows_of(figures, launched)
    text = table_text(version, rows)
    if arguments.update:
        TABLE.write_text(text)
    elif not TABLE.exists() or not TABLE.read_text().startswith(f"nvcc {version}. "):
        print(f"the table is not of nvcc {version}: figures are not compared")
    elif TABLE.read_text() != text:
        sys.stdout.writelines(difflib.unified_diff(TABLE.read_text().splitlines(True), text.splitlines(True),
                                                   str(TABLE.relative_to(ROOT)), "this build", n=0))
        complaints.append("figures differ from the table: if that is meant, tools/cuda-figures.py BUILD_FOLDER --update")
    spilling = sum(row[3] != "0" for row in rows)
    occupied = [int(row[9]) for row in rows if row[9] != "-"]
    print(f"{len(rows)} kernels and architectures: {spilling} spill, {sum(row[9] == '-' for row in rows)} are not "
          f"launched by the tests, warps per multiprocessor from {min(occupied)} to {max(occupied)}")
    if complaints:
        die("\n  ".join(complaints))


if __name__ == "__main__":
    main()
