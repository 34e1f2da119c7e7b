#!/usr/bin/env python3
"""Writes tests/golden/models/tiny/*: random-weight Hugging Face folders and what transformers computes for them.

Needs torch and transformers. Takes no arguments; the formats are described in README.md beside this file.
"""
import json
import pathlib
import shutil

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
N_IDS = 40
CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}


def shape(hidden, heads, kv_heads, head_dim, ffn, vocab, layers=2):
    return dict(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=ffn,
        vocab_size=vocab,
        num_hidden_layers=layers,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
    )


def rope(kind="default", base=10000.0, **settings):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=base, **settings))


# name -> (family, settings, dtype on disk, options)
MODELS = {
    "llama-group3": ("llama", {**shape(48, 3, 1, 16, 53, 101), **rope(), "rms_norm_eps": 1e-5}, "float32", {}),
    "llama-llama3-rope": (
        "llama",
        {
            **shape(40, 4, 1, 24, 37, 97),
            # Wavelengths of 6 to 30,000 positions around the bounds 16 and 64: all three branches of the rule.
            **rope(
                "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
            ),
            "tie_word_embeddings": True,
        },
        "float32",
        {},
    ),
    "llama-linear-rope": (
        "llama",
        {**shape(40, 4, 4, 10, 45, 113), **rope("linear", 500.0, factor=4.0)},
        "float32",
        {"older_config": True},
    ),
    "llama-biases": (
        "llama",
        {**shape(36, 8, 1, 6, 51, 99, layers=3), **rope(), "attention_bias": True, "mlp_bias": True},
        "bfloat16",
        {},
    ),
    "mistral-window": (
        "mistral",
        {**shape(64, 8, 2, 8, 41, 103), **rope(), "sliding_window": 16},
        "bfloat16",
        {},
    ),
    "mistral-wide": ("mistral", {**shape(48, 6, 2, 8, 61, 96), **rope(base=1e6), "sliding_window": 4096}, "float16", {}),
    "qwen2": (
        "qwen2",
        {**shape(60, 6, 2, 10, 43, 131), **rope(base=1e6), "tie_word_embeddings": True},
        "bfloat16",
        {"older_config": True},
    ),
    "qwen2-sharded": ("qwen2", {**shape(32, 4, 4, 8, 47, 107), **rope()}, "float32", {"max_shard_size": "40KB"}),
    "qwen3": ("qwen3", {**shape(40, 5, 1, 16, 57, 127, layers=3), **rope(base=1e6)}, "float16", {}),
    "qwen3-tied": ("qwen3", {**shape(48, 8, 2, 12, 49, 109), **rope(), "tie_word_embeddings": True}, "bfloat16", {}),
}


def randomize(model, generator):
    """Wide enough that attention is far from uniform: an error in RoPE or in a head's order moves the logits."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            parameter.data = 2 + 0.25 * noise
        elif name.endswith("norm.weight"):
            parameter.data = 1 + 0.25 * noise
        elif name.endswith("bias"):
            parameter.data = 0.5 * noise
        else:
            parameter.data = 0.25 * noise
    model.tie_weights()


def to_older_config(path):
    """The spelling of transformers 4: rope_theta and rope_scaling, torch_dtype."""
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **parameters}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make(name, family, settings, dtype, options, seed):
    config_class, model_class = CLASSES[family]
    folder = HERE / "tiny" / name
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    model = model_class(config_class(**settings))
    randomize(model, generator)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=options.get("max_shard_size", "50GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if options.get("older_config"):
        to_older_config(folder / "config.json")

    # Computed from the files, so that the golden values belong to what is on disk.
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(0, settings["vocab_size"], (N_IDS,), generator=generator)
    with torch.no_grad():
        output = model(ids[None], output_attentions=True)
    logits = output.logits[0].numpy()
    (HERE / "tiny" / f"{name}.logits.f32.bin").write_bytes(np.ascontiguousarray(logits, "<f4").tobytes())
    golden = {
        "ids": ids.tolist(),
        "vocabulary": settings["vocab_size"],
        "inverse_frequency": model.model.rotary_emb.inv_freq.double().tolist(),
    }
    (HERE / "tiny" / f"{name}.json").write_text(json.dumps(golden) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    top = torch.stack([a[0, :, -1].max(dim=-1).values.mean() for a in output.attentions])
    print(f"{name}: {size} bytes, |logit| <= {abs(logits).max():.2f}, mean largest attention weight {top.tolist()}")


def main():
    shutil.rmtree(HERE / "tiny", ignore_errors=True)
    for seed, (name, (family, settings, dtype, options)) in enumerate(MODELS.items()):
        make(name, family, settings, dtype, options, seed)


if __name__ == "__main__":
    main()
