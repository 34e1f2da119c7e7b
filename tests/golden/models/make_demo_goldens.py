#!/usr/bin/env python3
"""Writes tests/golden/models/demo/*: what transformers computes for the demo model, in float32.

    make_demo_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf

Needs torch, transformers, gguf, tokenizers. The formats are described in README.md beside this file.
"""
import json
import os
import pathlib
import sys

import gguf
import numpy as np
import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = ["prose", "code", "mixed"]
PROMPTS = [
    "The capital of France is Paris. The capital of Italy is",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "Once upon a time there was a lighthouse keeper who",
]
CONTINUATION = 48
SAMPLED_IDS = 512
SAMPLED_EVERY = 25


def load_tokenizer(path):
    """Byte-level BPE from the file's own vocabulary; the pre-tokenizer "smollm" splits digits one by one first."""
    fields = gguf.GGUFReader(path).fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ", 1)) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def write_array(name, array, dtype):
    array = np.ascontiguousarray(array, dtype=dtype)
    (HERE / "demo" / name).write_bytes(array.tobytes())


def write_text(model, tokenizer, name, sampled_ids):
    text = (HERE / "texts" / f"{name}.txt").read_text(encoding="utf-8")
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert len(ids) >= 500, (name, len(ids))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    logprobs = torch.log_softmax(logits.double(), dim=-1).numpy()
    top2 = -np.sort(-logprobs, axis=-1)[:, :2]
    positions = list(range(0, len(ids), SAMPLED_EVERY))
    write_array(f"{name}.next_logprob.f32.bin", logprobs[np.arange(len(ids) - 1), ids[1:]], "<f4")
    write_array(f"{name}.argmax.i32.bin", logprobs.argmax(axis=-1), "<i4")
    write_array(f"{name}.gap.f32.bin", top2[:, 0] - top2[:, 1], "<f4")
    write_array(f"{name}.sampled_logprob.f32.bin", logprobs[positions][:, sampled_ids], "<f4")
    meta = {"text": f"texts/{name}.txt", "ids": ids, "sampled_positions": positions, "sampled_ids": sampled_ids}
    (HERE / "demo" / f"{name}.json").write_text(json.dumps(meta) + "\n")
    print(name, len(ids), "tokens, mean next log-probability", logprobs[np.arange(len(ids) - 1), ids[1:]].mean())


def greedy(model, tokenizer, prompt):
    ids = tokenizer.encode(prompt).ids
    output, gaps = [], []
    with torch.no_grad():
        for _ in range(CONTINUATION):
            logits = model(torch.tensor([ids + output])).logits[0, -1].double()
            best = torch.topk(torch.log_softmax(logits, dim=-1), 2)
            output.append(int(best.indices[0]))
            gaps.append(round(float(best.values[0] - best.values[1]), 6))
    print(repr(prompt), "->", repr(tokenizer.decode(output)), "smallest gap", min(gaps))
    return {"prompt": prompt, "ids": ids, "continuation": output, "gap": gaps, "text": tokenizer.decode(output)}


def main():
    path = os.path.abspath(sys.argv[1])
    torch.manual_seed(0)
    tokenizer = load_tokenizer(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    (HERE / "demo").mkdir(exist_ok=True)
    rng = np.random.default_rng(20250101)
    sampled_ids = sorted(int(i) for i in rng.choice(model.config.vocab_size, SAMPLED_IDS, replace=False))
    for name in TEXTS:
        write_text(model, tokenizer, name, sampled_ids)
    continuations = [greedy(model, tokenizer, prompt) for prompt in PROMPTS]
    (HERE / "demo" / "greedy.json").write_text(json.dumps(continuations, indent=1) + "\n")


if __name__ == "__main__":
    main()
