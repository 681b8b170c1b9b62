"""Tiny checkpoints of the families that came after Llama, with odd settings: for make.py.

Heads whose width is no quotient, windows shorter than the texts, every kind of norm, caps that are felt, joint and
interleaved projections, blocks that do not rotate; saved by transformers 4 and 5, in shards, and as a part of a model of
text and images.
"""

from common import *  # noqa: F403
from transformers import (
    Gemma2Config, Gemma3Config, Gemma3TextConfig, GPTNeoXConfig, MistralConfig, Olmo2Config, Phi3Config, Qwen3Config, SmolLM3Config)

SEED = 20261127


def neox_config(**more):
    return GPTNeoXConfig(**{
        "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 40,
        "max_position_embeddings": 64, "vocab_size": VOCAB, "bos_token_id": EOS, "eos_token_id": EOS,
        "rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.25, "rope_type": "default"}, **more})


def gemma2_config(**more):
    return llama_config(of=Gemma2Config, **{
        "head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 3, "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0, **more})


def gemma3_config(full=None, **more):
    sizes = {
        "num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 40, "max_position_embeddings": 64, "vocab_size": VOCAB, "bos_token_id": EOS,
        "eos_token_id": EOS, "pad_token_id": None, "head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 20000.0, **(full or {})},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}}
    return Gemma3TextConfig(**{**sizes, **more})


def gemma3_with_images():
    """The text model as one part of a model of text and images."""
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
              "patch_size": 14}
    return Gemma3Config(
        text_config=gemma3_config().to_dict(), vision_config=vision, mm_tokens_per_image=4, image_token_index=99,
        boi_token_index=98, eoi_token_index=97, eos_token_id=[EOS, 7])


def long_rope(n_rotated, original, share=1.0):
    n = n_rotated // 2
    return {
        "rope_type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(n)], "partial_rotary_factor": share,
        "long_factor": [2.0 + 0.5 * i for i in range(n)], "original_max_position_embeddings": original}


def phi3_config(rope=None, original=64, **more):
    return llama_config(of=Phi3Config, rope=rope, original_max_position_embeddings=original, **more)


def cases(save_plain, save_sharded, rewrite, save_by_transformers_4):
    """`name -> (model, how to save it, reference model or None)`, with make.py's ways to save."""
    made = lambda config: lambda seed, **more: new_model(config(**more), SEED + seed)
    of = lambda cls: made(lambda **more: llama_config(of=cls, **more))
    qwen3, mistral, olmo2, smollm3 = of(Qwen3Config), of(MistralConfig), of(Olmo2Config), of(SmolLM3Config)
    neox, gemma2, gemma3, phi3 = made(neox_config), made(gemma2_config), made(gemma3_config), made(phi3_config)
    short = long_rope(8, 32)
    return {
        "qwen3": (qwen3(0, head_dim=12), save_plain, qwen3(1, head_dim=12)),
        "qwen3-window": (
            qwen3(2, head_dim=12, attention_bias=True, use_sliding_window=True, sliding_window=3, max_window_layers=1,
                  tie_word_embeddings=True), save_sharded, None),
        "qwen3-by-4": (qwen3(3, head_dim=12), save_by_transformers_4("qwen3", rope_theta=10000.0), None),
        "mistral": (mistral(10, head_dim=12, sliding_window=3), save_plain, mistral(11, head_dim=12, sliding_window=3)),
        "mistral-full": (mistral(12, sliding_window=None, heads=(4, 4)), save_sharded, None),
        "mistral-by-4": (mistral(13, sliding_window=3), save_by_transformers_4("mistral", rope_theta=10000.0), None),
        "gpt-neox": (neox(20), save_plain, neox(21)),
        "gpt-neox-serial": (
            neox(22, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new", tie_word_embeddings=True,
                 rope_parameters={"rope_theta": 500.0, "partial_rotary_factor": 0.5, "rope_type": "linear", "factor": 2.0}),
            save_sharded, None),
        "gpt-neox-hub": (neox(20), save_as_published_gpt_neox(rewrite), None),
        "gpt-neox-by-4": (
            neox(23), save_by_transformers_4("gpt_neox", rotary_pct=0.25, rotary_emb_base=10000), None),
        "olmo2": (olmo2(30), save_plain, olmo2(31)),
        "olmo2-odd": (
            olmo2(32, attention_bias=True, heads=(4, 1), rope={"rope_theta": 500.0}, tie_word_embeddings=True),
            save_sharded, None),
        "olmo2-by-4": (olmo2(33), save_by_transformers_4("olmo2", rope_theta=10000.0), None),
        "gemma2": (gemma2(40), save_plain, gemma2(41)),
        "gemma2-odd": (
            gemma2(42, heads=(4, 1), attention_bias=True, final_logit_softcapping=None, tie_word_embeddings=False,
                   layer_types=["full_attention", "sliding_attention", "full_attention"]), save_sharded, None),
        "gemma2-by-4": (gemma2(44), save_by_transformers_4("gemma2", rope_theta=10000.0), None),
        "gemma3": (gemma3(50), save_plain, gemma3(51)),
        "gemma3-linear": (
            gemma3(52, full={"rope_type": "linear", "factor": 8.0}, final_logit_softcapping=3.0), save_sharded, None),
        "gemma3-by-4": (
            gemma3(53, full={"rope_type": "linear", "factor": 8.0}), save_by_transformers_4(
                "gemma3_text", rope_theta=20000.0, rope_local_base_freq=100.0,
                rope_scaling={"rope_type": "linear", "factor": 8.0}), None),
        "gemma3-part": (new_model(gemma3_with_images(), SEED + 54), save_plain, None),
        "phi3": (phi3(60, sliding_window=3), save_plain, phi3(61, sliding_window=3)),
        "phi3-short": (phi3(62, original=32, rope=short), save_sharded, None),
        "phi3-long": (phi3(63, original=6, rope=long_rope(4, 6, 0.5)), save_plain, None),
        "phi3-by-4": (
            phi3(64, original=32, rope=short), save_by_transformers_4(
                "phi3", rope_theta=10000.0, original_max_position_embeddings=32,
                rope_scaling={k: v for k, v in short.items() if k in ("short_factor", "long_factor")}
                | {"type": "longrope"}), None),
        "smollm3": (smollm3(70, num_hidden_layers=5), save_plain, smollm3(71, num_hidden_layers=5)),
        "smollm3-odd": (
            smollm3(72, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=3, attention_bias=True,
                    mlp_bias=True, tie_word_embeddings=False), save_sharded, None),
        "smollm3-by-4": (
            smollm3(73, num_hidden_layers=5), save_by_transformers_4("smollm3", rope_theta=10000.0), None),
    }


def save_as_published_gpt_neox(rewrite):
    """As the published Pythia: `embed_out`, mask buffers with the weights, `rotary_pct`, a sparse config."""
    def save(model, path):
        n, blocks = model.config.max_position_embeddings, range(model.config.num_hidden_layers)
        name = lambda b, end: f"gpt_neox.layers.{b}.attention.{end}"
        rewrite(
            model, path,
            rename=lambda name: name.replace("lm_head.", "embed_out."),
            extra=lambda m: {name(b, "bias"): torch.tril(torch.ones(1, 1, n, n, dtype=torch.bool)) for b in blocks}
            | {name(b, "masked_bias"): torch.tensor(-1e9) for b in blocks}
            | {name(b, "rotary_emb.inv_freq"): model.gpt_neox.rotary_emb.inv_freq.clone() for b in blocks},
            drop_keys={"dtype", "rope_parameters", "transformers_version", "attention_bias"})
        config = json.loads((path / "config.json").read_text())
        config |= {"rotary_pct": 0.25, "rotary_emb_base": 10000, "torch_dtype": "float32"}
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return save
