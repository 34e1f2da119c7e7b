#!/usr/bin/env python3
"""Writes tests/golden/evict/*: what kvpress computes on the demo model's own keys, values and queries, in float32.

    make_evict_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf

Needs torch, transformers, gguf and kvpress 0.5.5. The formats are described in README.md beside this file.
"""
import json
import os
import pathlib
import sys

import kvpress
import numpy as np
import torch
import torch.nn.functional as F
import transformers

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = HERE.parent / "models" / "demo"
N_TOKENS = 1000
SCORE_LAYERS = [0, 11, 29]
RATIO = 0.8


class MaxPooledSnapKV(kvpress.SnapKVPress):
    """The setting of LU-KV's published code: 32 queries, max pooling of kernel 7, on kvpress's window attention."""

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        batch, kv_heads, length, _ = keys.shape
        weights = self.compute_window_attention(
            module, hidden_states, keys, self.window_size, kwargs["position_embeddings"]
        ).mean(dim=-2)
        pooled = F.max_pool1d(weights, kernel_size=self.kernel_size, padding=self.kernel_size // 2, stride=1)
        scores = pooled.view(batch, kv_heads, -1, length - self.window_size).mean(2)
        return F.pad(scores, (0, self.window_size), value=scores.max().item() + 1)


SCORERS = {
    "snapkv_64_average": lambda: kvpress.SnapKVPress(window_size=64, kernel_size=5),
    "snapkv_32_max": lambda: MaxPooledSnapKV(window_size=32, kernel_size=7),
    "keydiff": lambda: kvpress.KeyDiffPress(),
    "expected_attention_0": lambda: kvpress.ExpectedAttentionPress(epsilon=0.0),
    "expected_attention_0.02": lambda: kvpress.ExpectedAttentionPress(epsilon=0.02),
    "knorm": lambda: kvpress.KnormPress(),
}


def load(path):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path) or ".", gguf_file=os.path.basename(path), dtype=torch.float32,
        attn_implementation="sdpa"
    )
    return model.eval()


def run(model, press, ids):
    """One forward under the press."""
    with torch.no_grad(), press(model):
        model(torch.tensor([ids]), past_key_values=transformers.DynamicCache())


def write_scores(model, name, make, ids):
    recorded = {}
    press = make()
    score = press.score

    def record(module, *args):
        scores = score(module, *args)
        recorded[int(module.layer_idx)] = scores[0].float().numpy().copy()
        return scores

    press.score = record
    press.compression_ratio = 0.5
    run(model, press, ids)
    scores = np.stack([recorded[layer] for layer in SCORE_LAYERS]).astype("<f4")
    assert scores.shape == (len(SCORE_LAYERS), model.config.num_key_value_heads, len(ids))
    (HERE / f"scores.{name}.f32.bin").write_bytes(scores.tobytes())


def write_kept(model, name, press, ids):
    """Bit t of [layers][kv_heads] is 1 where entry t is kept; padded to whole 32 bits."""
    run(model, press, ids)
    kept = np.ones((model.config.num_hidden_layers, model.config.num_key_value_heads, len(ids)), dtype=np.uint8)
    for layer in model.model.layers:
        _, heads, positions = layer.self_attn.masked_key_indices
        kept[layer.self_attn.layer_idx, heads.numpy(), positions.numpy()] = 0
        layer.self_attn.masked_key_indices = None
    padded = np.pad(kept, ((0, 0), (0, 0), (0, -len(ids) % 32)))
    (HERE / f"kept.{name}.i32.bin").write_bytes(np.packbits(padded, axis=-1, bitorder="little").tobytes())
    print(name, "keeps", kept.mean())


def main():
    model = load(sys.argv[1])
    ids = []
    for text in ["prose", "code", "mixed"]:
        ids += json.loads((TEXTS / f"{text}.json").read_text())["ids"]
    ids = ids[:N_TOKENS]
    for name, make in SCORERS.items():
        write_scores(model, name, make, ids)

    for name in ["snapkv_64_average", "keydiff", "expected_attention_0.02"]:
        scorer = SCORERS[name]()
        scorer.compression_ratio = RATIO
        write_kept(model, f"adakv.{name}", kvpress.AdaKVPress(scorer), ids)

    # A curve of no meaning, from heads that keep nearly nothing to heads that keep nearly everything.
    layers, heads = model.config.num_hidden_layers, model.config.num_key_value_heads
    row = np.random.default_rng(20).beta(2.0, 0.6, size=(layers, heads)).astype("<f4")
    (HERE / "curve_row.f32.bin").write_bytes(row.tobytes())
    windows = {"snapkv_32_max": 32}
    for name in ["snapkv_32_max", "keydiff", "expected_attention_0.02"]:
        press = kvpress.LUKVPress(SCORERS[name](), compression_ratio=RATIO, sink=4, window=windows.get(name, 1))
        press._budget_curves = np.broadcast_to(row, (99, layers, heads)).copy()
        write_kept(model, f"lukv.{name}", press, ids)

    meta = {"ids": ids, "score_layers": SCORE_LAYERS, "ratio": RATIO, "kvpress": "0.5.5"}
    (HERE / "meta.json").write_text(json.dumps(meta) + "\n")


if __name__ == "__main__":
    main()
