"""Tiny GGUF files of every architecture but llama, and of SentencePiece tokenizers: named by the Python package `gguf`, filled as
llama.cpp's converter does (convert_hf_to_gguf.py), compared with transformers and llama.cpp.

run:    python make_architectures.py    (gguf, numpy, safetensors, sentencepiece, torch, transformers, xllamacpp as in
                                        architectures.meta.json; a minute)
writes: <case>.gguf, <case>.safetensors, <case>.json    file, tensors and settings: transformers' own, of a random model
        architectures.ids.json                          token ids by llama.cpp, by case, of made-up texts
        architectures.meta.json                         versions, and the largest difference of logits

Before it writes, it checks that transformers' own reader of GGUF files gets the same tensors, and that the logits of llama.cpp are
transformers' (a text longer than the window and than the original context; the library computes with 16-bit keys and values).
"""

import io
import math
import platform
import random
import tempfile
from importlib.metadata import version

import numpy as np
import sentencepiece
import torch
from gguf import MODEL_ARCH, GGUFWriter, RopeScalingType, get_tensor_name_map
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from llama_cpp import Model, Vocabulary
from make import HERE, SEED, finish, permuted, tokenizer, write
from texts import made_up

TOLERANCE = 0.05
SIZES = dict(
    hidden_size=24, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
    bos_token_id=1, eos_token_id=2, pad_token_id=0, attention_dropout=0.0)
GEMMA = dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=7, hidden_activation="gelu_pytorch_tanh", bos_token_id=2, eos_token_id=1)
FACTORS = dict(long_factor=[1.5, 2.25], short_factor=[1.0, 1.0299999713897705])
# By case: architecture, settings, tokenizer, keys to compare.
CASES = {
    "llama-spm": (MODEL_ARCH.LLAMA, "llama", dict(SIZES, num_hidden_layers=1, rope_theta=10000.0), "prefix", []),
    "qwen2-arch": (MODEL_ARCH.QWEN2, "qwen2", dict(SIZES, num_hidden_layers=2, rope_theta=1e6, tie_word_embeddings=True), "qwen2", ["use_sliding_window"]),
    "qwen3": (MODEL_ARCH.QWEN3, "qwen3", dict(SIZES, num_hidden_layers=2, head_dim=8, rope_theta=1e6), "qwen2", ["attention_bias", "use_sliding_window"]),
    "gemma2": (
        MODEL_ARCH.GEMMA2, "gemma2",
        dict(SIZES, **{**GEMMA, "num_hidden_layers": 3, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "rope_theta": 10000.0}), "plain",
        ["attn_logit_softcapping", "final_logit_softcapping", "hidden_activation", "layer_types", "query_pre_attn_scalar", "sliding_window"]),
    "gemma3": (
        MODEL_ARCH.GEMMA3, "gemma3_text",
        dict(SIZES, **{**GEMMA, "num_hidden_layers": 7, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
        "plain", ["attn_logit_softcapping", "final_logit_softcapping", "hidden_activation", "layer_types", "query_pre_attn_scalar", "sliding_window"]),
    "phi3": (
        MODEL_ARCH.PHI3, "phi3",
        dict(
            SIZES, hidden_size=32, num_hidden_layers=2, rope_theta=10000.0, partial_rotary_factor=0.5, original_max_position_embeddings=16,
            sliding_window=None, rope_scaling={"type": "longrope", **FACTORS}),
        "strips", ["partial_rotary_factor", "original_max_position_embeddings", "sliding_window"]),
}


def sentences():
    rng = random.Random(SEED)
    words = "the mill river Anna they're größer naïve code_x 東京都 Привет 12 345 --- ==== !!".split()
    return [" ".join(rng.choice(words) for _ in range(12)) + rng.choice(["", "  x", "    y"]) for _ in range(400)] + made_up(150, SEED, special=False)


def pieces(kind):
    """Texts, scores and types of a SentencePiece model, as the converter writes them."""
    out = io.BytesIO()
    roles = dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3) if kind == "plain" else dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_writer=out, model_type="bpe", vocab_size=560, byte_fallback=True, character_coverage=0.98,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
        split_digits=True, add_dummy_prefix=kind != "plain", user_defined_symbols=["<table>", "\n\n", "\n"] if kind == "plain" else [], **roles)
    model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    texts, scores, types = [], [], []
    for i in range(model.vocab_size()):
        texts.append(model.IdToPiece(i))
        scores.append(model.GetScore(i))
        types.append(2 if model.IsUnknown(i) else 3 if model.IsControl(i) else 5 if model.IsUnused(i) else 6 if model.IsByte(i) else 1)
        if kind == "plain" and texts[-1] in ("<table>", "\n\n", "\n"):
            types[-1], scores[-1] = 4, -1000.0
    for added, type_ in (("<|end|>", 3), ("<|endoftext|>", 3), ("<|im_start|>", 4)):
        texts, scores, types = [*texts, added], [*scores, -1000.0], [*types, type_]
    while len(texts) % 8:
        texts, scores, types = [*texts, f"[PAD{len(texts)}]"], [*scores, -10000.0], [*types, 5]
    return texts, scores, types


def add_tokenizer(writer, kind):
    if kind == "qwen2":
        tokens, types, merges = tokenizer()
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_merges(merges)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(False)
    else:
        tokens, scores, types = pieces(kind)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(scores)
        for role, text in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"), ("pad", "<pad>")):
            if text in tokens:
                getattr(writer, f"add_{role}_token_id")(tokens.index(text))
        if kind == "plain":
            writer.add_add_space_prefix(False)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    return tokens


def add_settings(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(1)
    kind = config.model_type
    if kind in ("qwen3", "gemma2", "gemma3_text"):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    parameters = config.rope_parameters
    if kind != "gemma2":
        writer.add_rope_freq_base(parameters.get("full_attention", parameters)["rope_theta"])
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_sliding_window(config.sliding_window)
    if kind == "gemma3_text":
        writer.add_sliding_window(config.sliding_window)
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
    if kind == "phi3":
        original = config.original_max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_dimension_count(int(config.partial_rotary_factor * config.hidden_size) // config.num_attention_heads)
        writer.add_sliding_window(config.sliding_window or 0)
        scale = config.max_position_embeddings / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.array(FACTORS[f"{name}_factor"], dtype=np.float32))


def case(name, arch, model_type, settings, tokens_of, keys):
    torch.manual_seed(SEED)
    path = HERE / f"{name}.gguf"
    writer = GGUFWriter(path, {"gemma3_text": "gemma3"}.get(model_type, model_type))
    writer.add_name("tiny phi-3" if model_type == "phi3" else f"tiny {name}")
    tokens = add_tokenizer(writer, tokens_of)
    config = AutoConfig.for_model(model_type, vocab_size=len(tokens), **settings)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).eval()
    add_settings(writer, config)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    expected = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        value = value * 8 if value.ndim > 1 else value + 0.3 * torch.randn(value.shape)
        value = value.half().float() if value.ndim > 1 else value
        model.state_dict()[key].copy_(value)
        value = value.numpy().copy()
        stored = value + np.float32(1) if "gemma" in model_type and key.endswith("norm.weight") else value
        # The sum is rounded: what a reader gets back is the rounded weight, which gives the same sum.
        expected[key] = stored - np.float32(1) if stored is not value else value
        assert stored is value or np.array_equal(expected[key] + np.float32(1), stored)
        if model_type == "llama" and ("q_proj" in key or "k_proj" in key):
            stored = permuted(stored, config.num_attention_heads if "q_proj" in key else config.num_key_value_heads)
        new = names.get_name(key, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(new, stored.astype(np.float16) if value.ndim > 1 else stored)
    finish(writer)

    # transformers' own reader, with the settings of the original.
    with tempfile.TemporaryDirectory() as folder:
        try:
            own = AutoModelForCausalLM.from_pretrained(HERE, gguf_file=path.name, config=config, dtype=torch.float32)
            got = own.state_dict()
            different = [key for key, value in expected.items() if not np.array_equal(got[key].numpy(), value)]
            own = f"{len(expected) - len(different)} of {len(expected)} tensors equal; different: {different}"
        except Exception as error:
            own = f"does not load it: {type(error).__name__}: {str(error)[:100]}"
    ids = [random.Random(SEED + i).randrange(3, 300) for i in range(25)]
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0].numpy()
    got = np.array(Model(path).logits(ids)[0])
    error = float(np.abs(got - want).max())
    print(f"{name}: logits up to {np.abs(want).max():.2f} differ by {error:.4f} at most; transformers' reader: {own}")
    assert error < TOLERANCE * max(1.0, np.abs(want).max())
    save_file(expected, HERE / f"{name}.safetensors")
    whole = config.to_dict()
    shared = ["vocab_size", "tie_word_embeddings", "head_dim", *SIZES]
    stated = {key: whole[key] for key in [*shared, *keys] if key in whole and not key.endswith("token_id")}
    write(f"{name}.json", {"model_type": model_type, "rope_parameters": whole.get("rope_parameters"), **stated})
    texts = [*made_up(120, SEED + 7), " ", "  x", "a" * 9, "=" * 23, " " * 17 + "x" + " " * 9, "<0x0A>", "▁x ▁ ▁▁", "<s> x</s>  y", "<|end|>  \n z", "a<table> b\n\n\nc"]
    vocabulary = Vocabulary(path)
    return {"texts": texts, "ids": [vocabulary.ids(text) for text in texts], "error": error, "transformers": own}


def main():
    out = {name: case(name, *settings) for name, settings in CASES.items()}
    write("architectures.ids.json", {name: {key: value[key] for key in ("texts", "ids")} for name, value in out.items()})
    packages = {name: version(name) for name in ("gguf", "numpy", "safetensors", "sentencepiece", "torch", "transformers", "xllamacpp")}
    write("architectures.meta.json", {
        "generator": "parity/gguf/make_architectures.py", **packages, "python": platform.python_version(), "seed": SEED,
        "largest difference of logits": {name: value["error"] for name, value in out.items()},
        "transformers' own reader": {name: value["transformers"] for name, value in out.items()}})


if __name__ == "__main__":
    main()
