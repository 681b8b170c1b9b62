"""Small GGUF files and their content: by the Python package `gguf` (values) and llama.cpp (token ids).

run:    python make.py       (gguf, numpy, safetensors, xllamacpp as in meta.json; seconds)
writes: blocks.gguf          random blocks of every type that is read, with finite scales
        blocks.safetensors   the same dequantised by `gguf`
        <case>.gguf          a llama of one or two blocks for each rule of cutting texts into words
        <case>.safetensors   its tensors as Hugging Face has them: made here before they were permuted for the file
        <case>.json          what its config.json must say
        ids.json             token ids by case of made-up texts
        meta.json            versions

Of the case `qwen2` the texts are in Unicode's composed form: llama.cpp does not compose, the model's publisher does.
"""

import json
import platform
import unicodedata
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFWriter, quants
from safetensors.numpy import save_file

from llama_cpp import Vocabulary
from texts import made_up

HERE = Path(__file__).resolve().parent
SEED = 5
# Types with the bytes of their block at which a 16-bit scale begins.
SCALES = {
    Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2],
    Q.Q5_K: [0, 2], Q.Q6_K: [208]}


def finite_halves(rng, n):
    """16-bit floats of all sizes, smallest ones and zeros among them; no infinity, no NaN."""
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[bits & 0x7C00 == 0x7C00] &= 0x83FF
    return bits.view(np.uint8).reshape(n, 2)


def blocks(rng):
    writer = GGUFWriter(HERE / "blocks.gguf", "none")
    expected = {}
    for kind, scales in SCALES.items():
        n_values, n_bytes = quants.GGML_QUANT_SIZES[kind]
        n = 1024 // n_values
        raw = rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
        for at in scales:
            raw[:, at:at + 2] = finite_halves(rng, n)
        raw = raw.reshape(2, -1)
        writer.add_tensor(kind.name, raw, raw_dtype=kind)
        expected[kind.name] = quants.dequantize(raw, kind)
    for kind, dtype in ((Q.F16, np.float16), (Q.F32, np.float32)):
        raw = rng.standard_normal((2, 64)).astype(dtype) if kind == Q.F32 else finite_halves(rng, 128).view(dtype).reshape(2, 64)
        writer.add_tensor(kind.name, raw)
        expected[kind.name] = raw.astype(np.float32)
    halves = (rng.standard_normal((2, 64)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor("BF16", halves.view(np.uint8).reshape(2, 128), raw_dtype=Q.BF16)
    expected["BF16"] = (halves.astype(np.uint32) << 16).view(np.float32)
    finish(writer)
    save_file(expected, HERE / "blocks.safetensors")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---------------------------------------------------------------- tokenizer


def byte_texts():
    """GPT-2's printable character of every byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shown, extra = {byte: chr(byte) for byte in kept}, 0
    for byte in range(256):
        if byte not in shown:
            shown[byte], extra = chr(256 + extra), extra + 1
    return shown


# Merges across every boundary of the rules: digits, white space, punctuation, letters of other scripts, `'s`.
MERGED = [
    " t", "th", " th", "the", " the", "in", "er", "1 2".replace(" ", ""), "12", "123", "00", "  ", "    ", "\n\n", "\r\n", " \n", "!!", "..",
    "'s", "'S", "re", "'re", " a", "an", " an", "\t\t", "é", "東", "京", "東京", ");", "{\n", " =", "==", "__", "e\n", ".\n", "a1", "1a", "🙂"]


def tokenizer():
    shown = byte_texts()
    text = lambda raw: "".join(shown[byte] for byte in raw)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *shown.values()]
    merges = []
    for word in MERGED:
        raw = word.encode()
        for end in range(2, len(raw) + 1):
            if text(raw[:end]) not in tokens:
                merges.append(f"{text(raw[:end - 1])} {text(raw[end - 1:end])}")
                tokens.append(text(raw[:end]))
    # A token that no merge makes, but that a rule for whole words finds.
    tokens.append(text(b"barn"))
    types = [3] * 3 + [1] * (len(tokens) - 3)
    tokens, types = [*tokens, "<fim>"], [*types, 4]
    while len(tokens) < 340:
        tokens, types = [*tokens, f"[PAD{len(tokens)}]"], [*types, 5]
    return tokens, types, merges


# ---------------------------------------------------------------- models


def permuted(weight, n_head):
    """Rows of a query or key projection as llama files have them (convert_hf_to_gguf.py, LlamaModel.permute)."""
    return (weight.reshape(n_head, 2, weight.shape[0] // n_head // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape))


def llama3_factors(theta, head_dim, factor):
    """What convert_hf_to_gguf.py writes for Llama 3's scaling."""
    out = []
    for freq in 1.0 / theta ** (np.arange(0, head_dim, 2) / head_dim):
        wavelength = 2 * np.pi / freq
        if wavelength < 8192 / 4.0:
            out.append(1.0)
        elif wavelength > 8192 / 1.0:
            out.append(factor)
        else:
            smooth = (8192 / wavelength - 1.0) / 3.0
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, dtype=np.float32)


CASES = {
    "smollm": dict(kinds=[Q.Q4_1, Q.Q8_0, Q.F32], theta=100000.0, context=64, n_block=2, n_head=4, n_kv=2, head_dim=None, tied=True),
    "llama-bpe": dict(kinds=[Q.F16, Q.BF16], theta=500000.0, context=131072, n_block=1, n_head=4, n_kv=1, head_dim=16, tied=False),
    "gpt-2": dict(kinds=[Q.Q8_0], theta=10000.0, context=64, n_block=1, n_head=2, n_kv=2, head_dim=None, tied=False),
    "qwen2": dict(kinds=[Q.Q4_0, Q.Q5_0, Q.Q5_1], theta=1e6, context=256, n_block=1, n_head=4, n_kv=4, head_dim=None, tied=True),
}
HIDDEN, INNER = 32, 64


def case(rng, name, kinds, theta, context, n_block, n_head, n_kv, head_dim, tied):
    tokens, types, merges = tokenizer()
    path = HERE / f"{name}.gguf"
    writer = GGUFWriter(path, "llama")
    width = head_dim or HIDDEN // n_head
    writer.add_name(f"tiny {name}")
    writer.add_block_count(n_block)
    writer.add_context_length(context)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(len(tokens))
    if n_kv != n_head:
        writer.add_head_count_kv(n_kv)
    if head_dim:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    scaling, biases = None, name == "gpt-2"
    if name == "gpt-2":
        scaling = {"rope_type": "linear", "type": "linear", "factor": 2.0}
        writer.add_string("llama.rope.scaling.type", "linear")
        writer.add_float32("llama.rope.scaling.factor", 2.0)
    if name == "qwen2":
        scaling = {"rope_type": "yarn", "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
        writer.add_string("llama.rope.scaling.type", "yarn")
        writer.add_float32("llama.rope.scaling.factor", 4.0)
        writer.add_uint32("llama.rope.scaling.original_context_length", 64)
    if name == "llama-bpe":
        scaling = {
            "rope_type": "llama3", "type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}
        writer.add_tensor("rope_freqs.weight", llama3_factors(theta, width, 32.0))

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if name == "smollm":
        writer.add_add_bos_token(False)
        writer.add_pad_token_id(2)
        writer.add_unk_token_id(0)
    if name == "llama-bpe":
        writer.add_eot_token_id(0)
    if name != "gpt-2":
        writer.add_chat_template("{% for message in messages %}{{ message['content'] + '\n' }}{% endfor %}")

    expected, turn = {}, 0
    def add(old, new, shape, heads=None, plain=False):
        nonlocal turn
        weight = rng.standard_normal(shape).astype(np.float32)
        kind, turn = (Q.F32, turn) if plain else (kinds[turn % len(kinds)], turn + 1)
        stored = permuted(weight, heads) if heads else weight
        if kind == Q.F16:
            writer.add_tensor(old, stored.astype(np.float16))
            expected[new] = weight.astype(np.float16).astype(np.float32)
        elif kind == Q.F32:
            writer.add_tensor(old, stored)
            expected[new] = weight
        else:
            writer.add_tensor(old, quants.quantize(stored, kind), raw_dtype=kind)
            # Rows are quantised each for itself, so their order does not matter.
            expected[new] = quants.dequantize(quants.quantize(weight, kind), kind)

    add("token_embd.weight", "model.embed_tokens.weight", (len(tokens), HIDDEN))
    add("output_norm.weight", "model.norm.weight", (HIDDEN,), plain=True)
    if not tied:
        add("output.weight", "lm_head.weight", (len(tokens), HIDDEN))
    q, kv = n_head * width, n_kv * width
    for b in range(n_block):
        old, new = f"blk.{b}.", f"model.layers.{b}."
        add(old + "attn_norm.weight", new + "input_layernorm.weight", (HIDDEN,), plain=True)
        add(old + "ffn_norm.weight", new + "post_attention_layernorm.weight", (HIDDEN,), plain=True)
        for part, to, shape, heads in (
            ("attn_q", "self_attn.q_proj", (q, HIDDEN), n_head), ("attn_k", "self_attn.k_proj", (kv, HIDDEN), n_kv),
            ("attn_v", "self_attn.v_proj", (kv, HIDDEN), None), ("attn_output", "self_attn.o_proj", (HIDDEN, q), None),
            ("ffn_gate", "mlp.gate_proj", (INNER, HIDDEN), None), ("ffn_up", "mlp.up_proj", (INNER, HIDDEN), None),
            ("ffn_down", "mlp.down_proj", (HIDDEN, INNER), None)):
            add(f"{old}{part}.weight", f"{new}{to}.weight", shape, heads)
            if biases:
                add(f"{old}{part}.bias", f"{new}{to}.bias", shape[:1], heads, plain=True)
    finish(writer)
    if name == "gpt-2":
        # Version 2 differs from 3 in this number alone.
        raw = bytearray(path.read_bytes())
        raw[4] = 2
        path.write_bytes(raw)
    save_file(expected, HERE / f"{name}.safetensors")
    write(f"{name}.json", {
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": n_block, "num_attention_heads": n_head,
        "num_key_value_heads": n_kv, "head_dim": width, "rope_theta": theta, "rope_scaling": scaling, "rms_norm_eps": 1e-5,
        "max_position_embeddings": context, "vocab_size": len(tokens), "tie_word_embeddings": tied, "attention_bias": biases,
        "mlp_bias": biases, "bos_token_id": 1, "eos_token_id": [2, 0] if name == "llama-bpe" else 2,
        "pad_token_id": 2 if name == "smollm" else None})

    texts = made_up(150, SEED)
    if name == "qwen2":
        texts = [text for text in texts if unicodedata.is_normalized("NFC", text)]
    vocabulary = Vocabulary(path)
    return {"texts": texts, "ids": [vocabulary.ids(text) for text in texts]}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    rng = np.random.default_rng(SEED)
    blocks(rng)
    write("ids.json", {name: case(rng, name, **settings) for name, settings in CASES.items()})
    packages = {name: version(name) for name in ("gguf", "numpy", "safetensors", "xllamacpp")}
    write("meta.json", {"generator": "parity/gguf/make.py", **packages, "python": platform.python_version(), "seed": SEED})


if __name__ == "__main__":
    main()
