"""Makes the tokenizer goldens with Hugging Face `tokenizers` and `sentencepiece`, and the small models they are made with.

    python make_goldens.py MODEL.gguf      (the demo model, SmolLM2-135M-Instruct; Python 3.11)

strings.jsonl: one JSON string a line. FAMILY/ids.jsonl: for the same lines {"plain": ids} where special tokens are plain
text, and "special": ids with special tokens matched where that differs. FAMILY/tokenizer.json: the model, except for
smollm, whose vocabulary is the demo model's.
"""

import json
import os
import pathlib
import sys

import gguf
import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

import golden_strings

HERE = pathlib.Path(__file__).parent
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"llama-bpe": CONTRACTION + "{1,3}" + REST, "qwen2": CONTRACTION + REST}
SPECIALS = {
    "gpt2": ["<|endoftext|>"],
    "llama-bpe": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def write_ids(family, strings, tokenizer, plain=None):
    lines = []
    for i, text in enumerate(strings):
        tokenizer.encode_special_tokens = True
        ids = {"plain": tokenizer.encode(text, add_special_tokens=False).ids}
        assert plain is None or ids["plain"] == plain[i], (family, text, ids["plain"], plain[i])
        tokenizer.encode_special_tokens = False
        special = tokenizer.encode(text, add_special_tokens=False).ids
        if special != ids["plain"]:
            ids["special"] = special
        lines.append(json.dumps(ids, separators=(",", ":")))
    (HERE / family).mkdir(exist_ok=True)
    (HERE / family / "ids.jsonl").write_text("\n".join(lines) + "\n")


def save(family, tokenizer, patch=lambda spec: None):
    spec = json.loads(tokenizer.to_str())
    patch(spec)
    (HERE / family).mkdir(exist_ok=True)
    (HERE / family / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")) + "\n")
    return tokenizers.Tokenizer.from_file(str(HERE / family / "tokenizer.json"))


def smollm(path):
    """The automatic conversion of the GGUF in `transformers` has GPT-2's pre-tokenizer; this is the model's own."""
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3])
    return tokenizer


def train(family, strings):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    if family == "gpt2":
        tokenizer.pre_tokenizer = byte_level()
    else:
        split = pre_tokenizers.Split(Regex(PATTERNS[family]), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level(use_regex=False)])
    if family == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=2500, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(strings, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS[family]])
    # Not special: matched whatever the caller wants. "<tool>" also swallows white space on its right.
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False, rstrip=True), AddedToken("<tool_call>", normalized=False)])

    def patch(spec):
        if family != "llama-bpe":
            return
        # In the place of the last merge's token, a word that no merge makes: only ignore_merges finds it.
        vocab = spec["model"]["vocab"]
        assert "ĠSCREAMING" not in vocab
        vocab["ĠSCREAMING"] = vocab.pop("".join(spec["model"]["merges"].pop()))
        spec["model"]["ignore_merges"] = True
        bos = tokenizer.token_to_id("<|begin_of_text|>")
        template = processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B:1",
                                                 special_tokens=[("<|begin_of_text|>", bos)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
        spec["post_processor"] = json.loads(tokenizer.to_str())["post_processor"]

    return save(family, tokenizer, patch)


def train_sentencepiece(strings):
    """A model with the settings of Llama 2 and Mistral 7B."""
    corpus = HERE / "corpus.tmp"
    corpus.write_text("\n".join(s.replace("\n", " ") for s in golden_strings.SENTENCES + golden_strings.CODE))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(HERE / "sentencepiece" / "tokenizer"), model_type="bpe", vocab_size=2000,
        character_coverage=0.98, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=True, split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
        max_sentence_length=100000)
    corpus.unlink()
    os.unlink(HERE / "sentencepiece" / "tokenizer.vocab")
    return sentencepiece.SentencePieceProcessor(model_file=str(HERE / "sentencepiece" / "tokenizer.model"))


def llama_tokenizer(model, metaspace):
    """What `transformers` makes of a Llama 2 (metaspace=False) or a newer Mistral tokenizer.model."""
    pieces = [model.id_to_piece(i) for i in range(model.vocab_size())]
    vocab = {p: i for i, p in enumerate(pieces)}
    merges = []
    for piece in pieces:
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(model.get_score(vocab[piece]), vocab[a], vocab[b], a, b) for a, b in splits]
    merges.sort(key=lambda m: (-m[0], m[1], m[2]))
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[m[3:] for m in merges], unk_token="<unk>",
                                                fuse_unk=True, byte_fallback=True))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                             special_tokens=[("<s>", vocab["<s>"])])
    return tokenizer


def main():
    strings = golden_strings.make()
    (HERE / "strings.jsonl").write_text("".join(json.dumps(s) + "\n" for s in strings))
    write_ids("smollm", strings, smollm(sys.argv[1]))
    for family in SPECIALS:
        write_ids(family, strings, train(family, strings))
    (HERE / "sentencepiece").mkdir(exist_ok=True)
    model = train_sentencepiece(strings)
    # Hugging Face's conversion of the model and the sentencepiece library itself must agree on plain text.
    write_ids("sentencepiece", strings, save("sentencepiece", llama_tokenizer(model, metaspace=False)),
              plain=[model.encode(s) for s in strings])
    write_ids("metaspace", strings, save("metaspace", llama_tokenizer(model, metaspace=True)))


main()
