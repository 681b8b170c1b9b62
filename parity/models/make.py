"""Tiny random checkpoints and the results of transformers.

run:    python make.py [CASE ...] (torch 2.11.0, transformers 5.23.0; seconds, CPU only; all cases without names)
writes: <case>/model/             a Hugging Face checkpoint
        <case>/golden.safetensors logits and log-probabilities
        <case>/golden.json        inputs, losses, gradient norms, generated tokens
        <case>/meta.json          versions, seed, hashes
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403
import families  # noqa: E402

SEED = 20250601
ALTERNATING = [[["global", "local"], 2]]
UNEVEN = [[["global", "local", "local"], 1], [["global"], 1]]

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}

N_NEW_TOKENS = 10
DPO_BETA = 0.1
NPO_BETA = 0.1


def cases():
    """`name -> (model, how to save it, reference model or None)`."""
    f32 = torch.float32
    gpt2 = lambda seed, dtype=f32, **more: new_model(gpt2_config(**more), seed, dtype)
    neo = lambda seed, kinds, window: new_model(gpt_neo_config(kinds, window), seed)
    llama = lambda seed, dtype=f32, **more: new_model(llama_config(**more), seed, dtype)
    qwen2 = lambda seed, **more: new_model(qwen2_config(**more), seed)
    return {
        # The two families with usual settings; a second random model is the reference of KL, DPO and NPO.
        "gpt2": (gpt2(SEED), save_plain, gpt2(SEED + 1)),
        "gpt-neo": (neo(SEED + 2, ALTERNATING, 5), save_plain, neo(SEED + 3, ALTERNATING, 5)),
        # Corners of config.json.
        "gpt2-inner": (gpt2(SEED + 4, n_layer=2, n_inner=48, activation_function="gelu_new"), save_plain, None),
        "gpt2-untied": (gpt2(SEED + 5, n_layer=2, tie_word_embeddings=False), save_plain, None),
        "gpt2-scaled": (
            gpt2(SEED + 6, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True), save_plain, None),
        "gpt-neo-uneven": (neo(SEED + 7, UNEVEN, 3), save_plain, None),
        # Corners of the files: shards, half precision, and the names and extra buffers of the published checkpoints.
        "gpt2-sharded": (gpt2(SEED), save_sharded, None),
        "gpt2-bf16": (gpt2(SEED, torch.bfloat16), save_plain, None),
        "gpt2-f16": (gpt2(SEED, torch.float16), save_plain, None),
        "gpt2-hub": (gpt2(SEED), save_as_published_gpt2, None),
        "gpt-neo-hub": (neo(SEED + 2, ALTERNATING, 5), save_as_published_gpt_neo, None),
        # Llama: with usual settings, with every kind of scaled rotary positions, and with unusual settings.
        "llama": (llama(SEED + 8), save_plain, llama(SEED + 9)),
        "llama-linear": (llama(SEED + 8, rope={"rope_type": "linear", "factor": 4.0}), save_plain, None),
        "llama-llama3": (
            llama(SEED + 8, rope=LLAMA3), save_plain, None),
        "llama-yarn": (
            llama(SEED + 11, rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
            save_plain, None),
        "llama-odd": (
            llama(SEED + 20, num_hidden_layers=2, head_dim=12, heads=(4, 1), attention_bias=True, mlp_bias=True,
                  tie_word_embeddings=True, rope={"rope_theta": 500.0}), save_plain, None),
        "llama-bf16": (llama(SEED + 11, torch.bfloat16), save_plain, None),
        "llama-older": (llama(SEED + 8), save_as_transformers_4, None),
        "llama-sharded": (llama(SEED + 8), save_sharded, None),
        # Saved by transformers 4 itself (run with TRANSFORMERS_4=DIR, where 4.57.1 is installed).
        "llama-by-4": (
            llama(SEED + 12, tie_word_embeddings=True, rope=LLAMA3), save_by_transformers_4(
                "llama", rope_theta=10000.0, rope_scaling=LLAMA3, eos_token_id=[EOS, 7]), None),
        "qwen2-by-4": (qwen2(SEED + 32), save_by_transformers_4("qwen2", rope_theta=10000.0), None),
        # Qwen2: biases where no key says so; a window shorter than the texts from the second block on.
        "qwen2": (qwen2(SEED + 30), save_plain, None),
        "qwen2-window": (
            qwen2(SEED + 31, use_sliding_window=True, sliding_window=3, max_window_layers=1), save_plain, None),
        **families.cases(save_plain, save_sharded, rewrite, save_by_transformers_4),
    }


def save_plain(model, path):
    model.save_pretrained(path)


def save_sharded(model, path):
    model.save_pretrained(path, max_shard_size="40KB")
    assert (path / "model.safetensors.index.json").exists()


def rewrite(model, path, rename, extra, drop_keys):
    """Rewrites a plain checkpoint with other tensor names, extra buffers and an older config.json."""
    model.save_pretrained(path)
    file = path / "model.safetensors"
    tensors = {rename(k): v for k, v in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file({**tensors, **extra(model)}, file, metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    config = {k: v for k, v in config.items() if k not in drop_keys}
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def save_as_published_gpt2(model, path):
    """As the published GPT-2: no `transformer.` prefix, a causal mask buffer in every block, a sparse config."""
    n = model.config.n_positions
    causal = lambda: torch.tril(torch.ones(1, 1, n, n))
    rewrite(
        model, path,
        rename=lambda name: name.removeprefix("transformer."),
        extra=lambda m: {f"h.{b}.attn.bias": causal() for b in range(m.config.n_layer)},
        drop_keys={"n_inner", "dtype", "tie_word_embeddings", "use_cache", "pad_token_id", "transformers_version",
                   "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "scale_attn_weights",
                   "add_cross_attention"})


def save_as_published_gpt_neo(model, path):
    """As the published GPT-Neo: boolean mask buffers and `masked_bias` scalars with the weights."""
    n = model.config.max_position_embeddings
    name = lambda b, end: f"transformer.h.{b}.attn.attention.{end}"
    blocks = lambda m: range(m.config.num_layers)
    rewrite(
        model, path,
        rename=lambda name: name,
        extra=lambda m: {name(b, "bias"): torch.tril(torch.ones(1, 1, n, n, dtype=torch.bool)) for b in blocks(m)}
        | {name(b, "masked_bias"): torch.tensor(-1e9) for b in blocks(m)},
        drop_keys={"dtype", "tie_word_embeddings", "use_cache", "pad_token_id", "transformers_version"})


def save_as_transformers_4(model, path):
    """As transformers 4 wrote it: `rope_theta` and `rope_scaling` with the sizes, `torch_dtype`, the frequencies of
    rotary positions stored in every block as still older ones did, ends of text as a list."""
    frequencies = model.model.rotary_emb.inv_freq
    rewrite(
        model, path,
        rename=lambda name: name,
        extra=lambda m: {f"model.layers.{b}.self_attn.rotary_emb.inv_freq": frequencies.clone()
                         for b in range(m.config.num_hidden_layers)},
        drop_keys={"dtype", "rope_parameters", "head_dim", "transformers_version"})
    config = json.loads((path / "config.json").read_text())
    config |= {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float32", "eos_token_id": [EOS, 7]}
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def save_by_transformers_4(model_type, **more):
    """Saves through transformers 4, in a process of its own, and checks that 4 and 5 compute the same."""
    def save(model, path):
        sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                 "vocab_size", "max_position_embeddings", "bos_token_id", "tie_word_embeddings", "head_dim",
                 "sliding_window", "layer_types", "query_pre_attn_scalar", "attn_logit_softcapping",
                 "final_logit_softcapping", "no_rope_layers")
        config = {k: getattr(model.config, k) for k in sizes if hasattr(model.config, k)}
        config |= {"model_type": model_type, "pad_token_id": None, "eos_token_id": EOS, **more}
        with tempfile.TemporaryDirectory() as place:
            model.save_pretrained(Path(place) / "five")
            (Path(place) / "config.json").write_text(json.dumps(config))
            environment = {**os.environ, "PYTHONPATH": os.environ["TRANSFORMERS_4"]}
            subprocess.run([sys.executable, HERE / "save_by_4.py", Path(place) / "five", Path(place) / "four",
                            Path(place) / "config.json"], check=True, env=environment)
            shutil.copytree(Path(place) / "four", path)
            four = safetensors.torch.load_file(Path(place) / "logits.safetensors")["logits"]
        with torch.no_grad():
            five = load(path)(input_ids=torch.arange(31)[None]).logits
        assert (four - five).abs().max() < 1e-5, "transformers 4 and 5 compute different logits"
    return save


def inputs():
    """Batches of three rows: plain texts padded on the right; pairs on a shared prompt; prompts to continue."""
    gen = torch.Generator().manual_seed(SEED)
    utility = random_rows(gen, [12, 7, 4])
    prompts = random_rows(gen, [5, 3, 1])
    chosen = random_rows(gen, [4, 7, 2])
    rejected = random_rows(gen, [7, 2, 5])
    to_continue = random_rows(gen, [8, 3, 1])
    # The pad id is an ordinary token in the middle of a text, too.
    utility[1][3] = rejected[0][2] = to_continue[0][4] = EOS
    return {
        "right": right_padded(utility),
        "chosen": prompted(prompts, chosen),
        "rejected": prompted(prompts, rejected),
    }, left_padded(to_continue)


def on_batch(model, batch):
    logits = forward(model, batch)
    logp = token_logp(logits, batch)
    nll_mean = nll_tok(logits, batch)
    return {"logits": logits, "logp": logp}, {
        **batch_json(batch),
        "positions": positions(batch[1]),
        "counted": counted(batch[1]),
        "n_counted": counted(batch[1]).sum(),
        "nll_sum": -logp.sum(),
        "nll_mean": nll_mean,
        "logp_seq": logp.sum(-1),
        "nll_mean_grad": grad_norms(nll_mean, model),
    }


def against_reference(model, reference, batches):
    """KL on `right`, DPO and NPO on the pair; each with its gradient norms on the parameters and its gradient on the
    logits, so that the losses can be checked without the model."""
    with torch.no_grad():
        ref = {k: forward(reference, batch) for k, batch in batches.items()}
    logits = {k: forward(model, batch) for k, batch in batches.items()}
    seq = lambda of, k: logp_seq(of[k], batches[k])
    tensors, out = {f"ref.{k}.logits": v for k, v in ref.items()}, {}

    def record(name, loss, texts, **more):
        on_logits = torch.autograd.grad(loss, [logits[k] for k in texts], retain_graph=True)
        tensors.update({f"{name}.{k}.grad_logits": g for k, g in zip(texts, on_logits)})
        out[name] = {"loss": loss, "grad": grad_norms(loss, model), **more}

    for kind, name in [("forward", "kl_ref_model"), ("reverse", "kl_model_ref"), ("js", "js")]:
        record(name, divergence(kind, ref["right"], logits["right"], batches["right"][1]), ["right"])
    loss, reward_chosen, reward_rejected, accuracy = dpo(
        seq(logits, "chosen"), seq(logits, "rejected"), seq(ref, "chosen"), seq(ref, "rejected"), DPO_BETA)
    record("dpo", loss, ["chosen", "rejected"], beta=DPO_BETA, reward_chosen=reward_chosen,
           reward_rejected=reward_rejected, accuracy=accuracy)
    record("npo", npo(seq(logits, "rejected"), seq(ref, "rejected"), NPO_BETA), ["rejected"], beta=NPO_BETA)
    return tensors, out


@torch.no_grad()
def greedy(model, batch):
    """Greedy continuation without a cache; the same as `generate` with its cache, or we stop."""
    ids, real = batch
    width, gap = ids.shape[1], float("inf")
    for _ in range(N_NEW_TOKENS):
        last = forward(model, (ids, real))[:, -1]
        best = last.topk(2).values
        gap = min(gap, (best[:, 0] - best[:, 1]).min().item())
        ids = torch.cat([ids, last.argmax(-1, keepdim=True)], 1)
        real = torch.cat([real, torch.ones(len(real), 1, dtype=torch.bool)], 1)
    assert gap > 1e-3, f"a near tie ({gap:.1e}) would make the continuation depend on rounding: change the seed"
    if uses_long_rope(model):
        return {**batch_json(batch), "new_tokens": ids[:, width:], "smallest_logit_gap": gap}
    out = model.generate(
        batch[0], attention_mask=batch[1].long(), max_new_tokens=N_NEW_TOKENS, do_sample=False,
        eos_token_id=VOCAB + 1, pad_token_id=EOS)
    assert torch.equal(out, ids), "transformers' cached generation disagrees with its own forward pass"
    return {**batch_json(batch), "new_tokens": ids[:, width:], "smallest_logit_gap": gap}


@torch.no_grad()
def rounding(model, batches):
    """Largest difference to the same forward in f64: the size of f32 rounding on this model.

    GPT-Neo keeps its attention scores in f32 even then, so its figure is a lower bound.
    """
    if getattr(model.config, "reorder_and_upcast_attn", False):
        return None
    if getattr(model.config.get_text_config(), "sliding_window", None):
        # In f64 the eager mask's smallest number overflows in rows that see padding alone, and NaN follows from it.
        return None
    f32 = {k: forward(model, b) for k, b in batches.items()}
    model.double()
    worst = max((forward(model, b) - f32[k])[b[1]].abs().max().item() for k, b in batches.items())
    model.float()
    return worst


def main():
    batches, to_continue = inputs()
    for name, (made, save, reference) in cases().items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        path = fresh_dir(HERE / name)
        save(made, path / "model")
        model = load(path / "model")
        hashes = {"model": model_hash(path / "model")}
        tensors, golden = {}, {"batches": {}}
        for key, batch in batches.items():
            big, small = on_batch(model, batch)
            tensors |= {f"{key}.{k}": v for k, v in big.items()}
            golden["batches"][key] = small
        golden["greedy"] = greedy(model, to_continue)
        if reference is not None:
            reference.save_pretrained(path / "reference")
            hashes["reference"] = model_hash(path / "reference")
            big, golden["against_reference"] = against_reference(model, load(path / "reference"), batches)
            tensors |= big
        write_tensors(path / "golden.safetensors", tensors)
        write_json(path / "golden.json", golden)
        write_meta(
            path / "meta.json", SEED, hashes, generator="parity/models/make.py",
            weights_dtype=str(made.dtype).removeprefix("torch."), max_abs_logit_rounding=rounding(model, batches))
        readable(path)
        print(f"{name}: nll {[round(b['nll_mean'].item(), 4) for b in golden['batches'].values()]}")


if __name__ == "__main__":
    main()
