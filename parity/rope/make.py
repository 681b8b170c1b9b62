"""Rotary positions as transformers reads them from `config.json`: every family, every type, every place of the keys.

run:    python make.py (torch 2.11.0, transformers 5.23.0; seconds, CPU, no weights)
writes: golden.json
        base      the settings of each family without those of rotary positions
        patches   what is added to them, by name; of group `gpt_neox`, `gemma3_text` or, for the other families, `others`
        results   distinct results: for each kind of block (a block of it), inverse frequencies with a text of SHORT and
                  of LONG tokens (null where they are the same) and the factor on cosines and sines
        cases     family -> patch -> number of its result, or what transformers raised

Everything is read as from_pretrained reads it, and the frequencies are those of the model's own module after a pass.
"""

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403
from transformers import AutoConfig  # noqa: E402
from transformers.models import (  # noqa: E402
    gemma2, gemma3, gpt_neox, llama, mistral, olmo2, phi3, qwen2, qwen3, smollm3)

SHORT, LONG, CONTEXT, BEFORE = 5, 40, 64, 16
HEAD, THETA, LOCAL = 12, 500.0, 70.0
MODULES = {
    "llama": llama.modeling_llama.LlamaRotaryEmbedding, "qwen2": qwen2.modeling_qwen2.Qwen2RotaryEmbedding,
    "qwen3": qwen3.modeling_qwen3.Qwen3RotaryEmbedding, "mistral": mistral.modeling_mistral.MistralRotaryEmbedding,
    "gpt_neox": gpt_neox.modeling_gpt_neox.GPTNeoXRotaryEmbedding, "olmo2": olmo2.modeling_olmo2.Olmo2RotaryEmbedding,
    "gemma2": gemma2.modeling_gemma2.Gemma2RotaryEmbedding, "gemma3_text": gemma3.modeling_gemma3.Gemma3RotaryEmbedding,
    "phi3": phi3.modeling_phi3.Phi3RotaryEmbedding, "smollm3": smollm3.modeling_smollm3.SmolLM3RotaryEmbedding,
}
# The others rotate a head whole: cosines of another width than the head's stop their forward pass.
IN_PART = ("gpt_neox", "phi3")


def base(family):
    sizes = {"model_type": family, "hidden_size": 4 * HEAD, "num_attention_heads": 4, "intermediate_size": 40,
             "num_hidden_layers": 2, "vocab_size": 101, "max_position_embeddings": CONTEXT}
    if family == "gpt_neox":
        sizes["rotary_pct"] = 0.5
    else:
        sizes |= {"num_key_value_heads": 2, "head_dim": HEAD}
    if family == "gemma3_text":
        sizes["layer_types"] = ["sliding_attention", "full_attention"]
    return sizes


def tables(n_rotated=HEAD):
    """Types with their keys, without their name: `label -> (type, keys)`."""
    lists = {"short_factor": [1.0 + 0.1 * i for i in range(n_rotated // 2)],
             "long_factor": [2.0 + 0.5 * i for i in range(n_rotated // 2)]}
    original = {"original_max_position_embeddings": BEFORE}
    yarn = {"factor": 4.0, **original}
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return {
        "default": ("default", {}),
        "default, factor": ("default", {"factor": 4.0}),
        "linear": ("linear", {"factor": 4.0}),
        "linear, no factor": ("linear", {}),
        "dynamic": ("dynamic", {"factor": 4.0}),
        "yarn": ("yarn", yarn),
        "yarn, attention_factor": ("yarn", {**yarn, "attention_factor": 0.7}),
        "yarn, mscale": ("yarn", {**yarn, "mscale": 0.7, "mscale_all_dim": 0.9}),
        "yarn, one mscale": ("yarn", {**yarn, "mscale": 0.7}),
        "yarn, mscale_all_dim 0": ("yarn", {**yarn, "mscale": 0.7, "mscale_all_dim": 0}),
        "yarn, betas": ("yarn", {**yarn, "beta_fast": 16.0, "beta_slow": 2.0}),
        "yarn, beta_slow 0": ("yarn", {**yarn, "beta_slow": 0}),
        "yarn, not truncated": ("yarn", {**yarn, "truncate": False}),
        "yarn, no original": ("yarn", {"factor": 4.0}),
        "yarn, factor null": ("yarn", {**yarn, "factor": None}),
        "yarn, factor under 1": ("yarn", {**yarn, "factor": 0.5}),
        "llama3": ("llama3", {**llama3, **original}),
        "llama3, no original": ("llama3", llama3),
        "longrope": ("longrope", {**lists, **original}),
        "longrope, factor": ("longrope", {**lists, **original, "factor": CONTEXT / BEFORE}),
        "longrope, other factor": ("longrope", {**lists, **original, "factor": 2.0}),
        "longrope, attention_factor": ("longrope", {**lists, **original, "attention_factor": 1.3}),
        "longrope, no original": ("longrope", lists),
        "su": ("su", {**lists, **original}),
        "yarn with lists": ("yarn", {**lists, **yarn}),
        "proportional": ("proportional", {}),
        "proportional, factor": ("proportional", {"factor": 2.0}),
        "mrope": ("mrope", {"mrope_section": [2, 2, 2]}),
        "unknown": ("ntk", {"factor": 4.0}),
    }


def others(theta="rope_theta", share="partial_rotary_factor", n_rotated=HEAD):
    """Keys of families with one table for all blocks."""
    out = {"absent": {}, "null": {theta: THETA, "rope_scaling": None}, "base alone": {theta: THETA}}
    if theta != "rope_theta":
        out["base alone, no share"] = {theta: THETA, share: None}
        out["base alone, other name"] = {"rope_theta": THETA}
    for label, (kind, keys) in tables(n_rotated).items():
        new = {"rope_type": kind, **keys}
        out |= {
            f"new: {label}": {"rope_parameters": {"rope_theta": THETA, **new}},
            f"new, base outside: {label}": {theta: THETA, "rope_parameters": new},
            f"old: {label}": {theta: THETA, "rope_scaling": new},
            f"older: {label}": {theta: THETA, "rope_scaling": {"type": kind, **keys}},
        }
        if kind in ("yarn", "llama3", "longrope", "su", "dynamic"):
            bare = {k: v for k, v in new.items() if k != "original_max_position_embeddings"}
            key = "original_max_position_embeddings"
            out |= {
                f"new, original twice: {label}": {key: BEFORE, "rope_parameters": {"rope_theta": THETA, **new}},
                f"new, other original: {label}": {key: 8, "rope_parameters": {"rope_theta": THETA, **new}},
                f"old, original outside: {label}": {key: BEFORE, theta: THETA, "rope_scaling": bare},
            }
    for label, (kind, keys) in tables(HEAD // 2).items():
        new = {"rope_type": kind, **keys}
        if "," not in label:
            out |= {
                f"new, share: {label}": {
                    "rope_parameters": {"rope_theta": THETA, "partial_rotary_factor": 0.5, **new}},
                f"old, share: {label}": {theta: THETA, share: 0.5, "rope_scaling": new},
                f"old, share and original: {label}": {
                    theta: THETA, share: 0.5, "original_max_position_embeddings": BEFORE, "rope_scaling": new},
            }
    both = {"type": "linear", "factor": 4.0}
    out |= {
        "both types": {theta: THETA, "rope_scaling": {"rope_type": "linear", **both}},
        "two types": {theta: THETA, "rope_scaling": {"rope_type": "dynamic", **both}},
        "both tables": {theta: THETA, "rope_scaling": both, "rope_parameters": {"rope_theta": THETA, **both}},
        "two tables": {theta: THETA, "rope_scaling": both, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}},
        "two bases": {theta: THETA, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}},
        "by kind of block": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": THETA}}},
    }
    return out


def by_kind():
    """Keys of Gemma 3, which has a table for each kind of block."""
    plain = {"rope_type": "default"}
    outside = {"rope_theta": THETA, "rope_local_base_freq": LOCAL}
    base = lambda theta, table: {**table, "rope_theta": theta}
    nested = lambda full, sliding: {"rope_parameters": {"full_attention": full, "sliding_attention": sliding}}
    out = {"absent": {}, "bases alone": outside, "null": {**outside, "rope_scaling": None},
           "one base": {"rope_theta": THETA}, "local base": {"rope_local_base_freq": LOCAL}}
    for label, (kind, keys) in tables().items():
        new = {"rope_type": kind, **keys}
        out |= {
            f"new, full: {label}": nested(base(THETA, new), base(LOCAL, plain)),
            f"new, sliding: {label}": nested(base(THETA, plain), base(LOCAL, new)),
            f"new, bases outside: {label}": {**outside, **nested(new, plain)},
            f"new, no bases: {label}": nested(new, plain),
            f"new, full alone: {label}": {"rope_parameters": {"full_attention": base(THETA, new)}},
            f"new, sliding null: {label}": nested(base(THETA, new), None),
            f"flat: {label}": {"rope_parameters": base(THETA, new)},
            f"old: {label}": {**outside, "rope_scaling": new},
            f"older: {label}": {**outside, "rope_scaling": {"type": kind, **keys}},
            f"older, no bases: {label}": {"rope_scaling": {"type": kind, **keys}},
            f"old, base inside: {label}": {"rope_scaling": base(THETA, new)},
        }
        if kind in ("yarn", "llama3", "longrope"):
            key = "original_max_position_embeddings"
            out |= {
                f"new, other original: {label}": {key: 8, **nested(base(THETA, new), base(LOCAL, plain))},
                f"older, other original: {label}": {**outside, key: 8, "rope_scaling": {"type": kind, **keys}},
            }
    for label, (kind, keys) in tables(HEAD // 2).items():
        if "," not in label:
            new = {"rope_type": kind, **keys}
            out |= {
                f"new, share: {label}": nested(base(THETA, {**new, "partial_rotary_factor": 0.5}), base(LOCAL, plain)),
                f"old, share: {label}": {**outside, "partial_rotary_factor": 0.5, "rope_scaling": new},
            }
    both = {**outside, "rope_scaling": {"type": "linear", "factor": 4.0}}
    out |= {
        "both tables": {**both, **nested(base(THETA, {"type": "linear", "factor": 4.0}), base(LOCAL, plain))},
        "two tables": {**both, **nested(base(THETA, plain), base(LOCAL, plain))},
        "two bases": {**outside, **nested(base(9.0, plain), base(LOCAL, plain))},
    }
    return out


def after_pass(module, kind, n):
    """Inverse frequencies and factor after a pass over `n` tokens."""
    more = {"layer_type": kind} if kind else {}
    module(torch.zeros(1), torch.arange(n)[None], **more)
    prefix = f"{kind}_" if kind else ""
    return getattr(module, f"{prefix}inv_freq").tolist(), float(getattr(module, f"{prefix}attention_scaling"))


def computed(family, config):
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "config.json").write_text(json.dumps(config))
        config = AutoConfig.from_pretrained(place)
    kinds = config.layer_types if family == "gemma3_text" else [None]
    out = []
    for kind in dict.fromkeys(kinds):
        module = MODULES[family](config)
        (short, factor), (long, long_factor) = after_pass(module, kind, SHORT), after_pass(module, kind, LONG)
        if factor != long_factor:
            raise ValueError("a factor that depends on the length")
        if family not in IN_PART and 2 * len(short) != HEAD:
            raise ValueError(f"{2 * len(short)} of {HEAD} values would be rotated, where the family rotates all")
        out.append({"block": kinds.index(kind), "short": short, "long": None if long == short else long, "factor": factor})
    return out


def main():
    patches = {"others": others(), "gpt_neox": others("rotary_emb_base", "rotary_pct", HEAD // 2), "gemma3_text": by_kind()}
    results, cases = [], {}
    for family in MODULES:
        of = cases[family] = {}
        for name, patch in patches[family if family in patches else "others"].items():
            try:
                result = computed(family, {**base(family), **json.loads(json.dumps(patch))})
            except Exception as error:  # whatever stops transformers is its answer
                of[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error) else ''}"
                continue
            if result not in results:
                results.append(result)
            of[name] = results.index(result)
    line = lambda value: json.dumps(value, separators=(",", ":"))
    table = lambda of: "{\n" + ",\n".join(f"{line(k)}:{line(v)}" for k, v in of.items()) + "\n}"
    parts = {
        "base": table({family: base(family) for family in MODULES}),
        "patches": "{\n" + ",\n".join(f"{line(group)}:{table(of)}" for group, of in patches.items()) + "\n}",
        "results": "[\n" + ",\n".join(map(line, results)) + "\n]",
        "cases": "{\n" + ",\n".join(f"{line(family)}:{table(of)}" for family, of in cases.items()) + "\n}",
    }
    about = {"generator": "parity/rope/make.py", "transformers": transformers.__version__,
             "torch": torch.__version__.split("+")[0], "n_tokens": [SHORT, LONG]}
    body = ",\n".join(f"{line(k)}:{v}" for k, v in parts.items())
    (HERE / "golden.json").write_text(f'{{"about":{line(about)},\n{body}}}\n')
    for family, of in cases.items():
        print(f"{family}: {len(of)} configurations, {sum(isinstance(v, str) for v in of.values())} stop transformers")
    print(f"{len(results)} distinct results")


if __name__ == "__main__":
    main()
