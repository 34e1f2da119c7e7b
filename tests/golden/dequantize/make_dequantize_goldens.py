#!/usr/bin/env python3
"""Writes <TYPE>.blocks.bin (raw blocks) and <TYPE>.f32.bin (what the gguf package makes of them) beside this file.

Needs numpy and gguf. The blocks of each type: all zero; all ones; random bytes, whatever their scales are; and random
bytes with each f16 scale set to one of the extreme values in turn.
"""
import pathlib

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

HERE = pathlib.Path(__file__).resolve().parent
# Largest, smallest subnormal, largest subnormal, negative zero, ordinary ones, infinity, NaN.
SCALES = [0x7BFF, 0xFBFF, 0x0001, 0x83FF, 0x8000, 0x3C00, 0x2E66, 0xA123, 0x7C00, 0xFE01]
# Byte offsets of the f16 fields in a block.
SCALE_OFFSETS = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def blocks_of(kind, rng):
    size = GGML_QUANT_SIZES[kind][1]
    count = 24 if size > 64 else 64
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    blocks[0] = 0
    blocks[1] = 255
    for i, scale in enumerate(SCALES):
        for j, offset in enumerate(SCALE_OFFSETS[kind]):
            value = SCALES[(i + 3 * j) % len(SCALES)]
            blocks[2 + i, offset : offset + 2] = np.frombuffer(np.uint16(value).tobytes(), np.uint8)
    # Trained weights have small positive scales.
    for i in range(2 + len(SCALES), count, 2):
        for offset in SCALE_OFFSETS[kind]:
            blocks[i, offset : offset + 2] = np.frombuffer(np.float16(rng.uniform(1e-4, 0.1)).tobytes(), np.uint8)
    return blocks


def float_patterns(kind, rng):
    if kind == T.F32:
        return rng.integers(0, 2**32, 512, dtype=np.uint64).astype("<u4").view(np.uint8)
    special = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0x7F80, 0xFF80, 0x7FC0])
    return np.concatenate([special, rng.integers(0, 2**16, 4096)]).astype("<u2").view(np.uint8)


def main():
    rng = np.random.default_rng(7)
    for kind in [T.F32, T.F16, T.BF16, *SCALE_OFFSETS]:
        raw = float_patterns(kind, rng) if kind in (T.F32, T.F16, T.BF16) else blocks_of(kind, rng)
        with np.errstate(invalid="ignore", over="ignore"):
            values = gguf.dequantize(raw, kind).astype("<f4")
        (HERE / f"{kind.name}.blocks.bin").write_bytes(raw.tobytes())
        (HERE / f"{kind.name}.f32.bin").write_bytes(values.tobytes())
        print(kind.name, raw.size, "bytes ->", values.size, "values,", int(np.isnan(values).sum()), "NaN")


if __name__ == "__main__":
    main()
