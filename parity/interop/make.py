"""Tiny checkpoints written by transformers, each with a tokenizer, and the texts to repair them on.

run:    python make.py OUT_DIR     (`cargo xtask interop` does; nothing here is kept in the repository)
writes: OUT_DIR/<case>/            gpt2, gpt-neo and four later families, each in f32, in bf16, and in f16 shards
        OUT_DIR/corpus.txt, pairs.jsonl, texts.json
"""

import json
import shutil
import sys
from pathlib import Path

PARITY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PARITY))
from common import *  # noqa: E402,F403
from transformers import Gemma2Config, GPTNeoXConfig, LlamaConfig, Qwen3Config  # noqa: E402

SEED = 20251122
N_VOCAB = 311  # more than any of the tokenizers has: published models pad their embeddings, too
TOKENIZERS = {"f32": "whole-added", "bf16": "older-config", "sharded": "older-added-decoder"}
TEXTS = ["the mill by the river", " Anna went\r\nto the mill ", "naïve 🙂 שלום\u0000<|endoftext|>x", "they're here; didn't I'VE [PAD]"]


def configs():
    sizes = {"num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
             "intermediate_size": 40, "max_position_embeddings": 64, "pad_token_id": None}
    shared = {"vocab_size": N_VOCAB, "bos_token_id": 299, "eos_token_id": 299}
    return {
        "gpt2": GPT2Config(n_layer=3, n_embd=16, n_head=2, n_positions=64, **shared),
        "gpt-neo": GPTNeoConfig(
            num_layers=4, hidden_size=16, num_heads=2, max_position_embeddings=64, window_size=6,
            attention_types=[[["global", "local"], 2]], **shared),
        "gpt-neox": GPTNeoXConfig(
            num_hidden_layers=3, hidden_size=32, num_attention_heads=4, intermediate_size=40, max_position_embeddings=64,
            **shared),
        "qwen3": Qwen3Config(**sizes, **shared),
        "gemma2": Gemma2Config(**sizes, sliding_window=6, **shared),
        "llama": LlamaConfig(**sizes, **shared),
    }


def main():
    out = fresh_dir(sys.argv[1])
    for i, (family, config) in enumerate(configs().items()):
        for form, tokenizer in TOKENIZERS.items():
            path = out / f"{family}-{form}"
            dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "sharded": torch.float16}[form]
            model = new_model(config, SEED + i, dtype)
            model.save_pretrained(path, max_shard_size="20KB" if form == "sharded" else "1GB")
            assert (path / "model.safetensors.index.json").exists() == (form == "sharded")
            for file in (PARITY / "tokenizer" / tokenizer).iterdir():
                if file.name != "golden.json":
                    shutil.copy(file, path / file.name)
    places, names = ["mill", "barn", "river"], ["Anna", "Tom"]
    (out / "corpus.txt").write_text("\n<|endoftext|>\n".join(
        f"{names[i % 2]} went to the {places[i % 3]} by the river." for i in range(40)) + "\n")
    (out / "pairs.jsonl").write_text("".join(json.dumps({
        "prompt": f"{names[i % 2]} said at the {places[i % 3]}:", "chosen": " good day.", "rejected": " you grubnik."}) + "\n"
        for i in range(16)))
    (out / "texts.json").write_text(json.dumps(TEXTS) + "\n")


if __name__ == "__main__":
    main()
