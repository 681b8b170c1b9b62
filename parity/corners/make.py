"""Corner cases of config.json and of the weight files, and the results of transformers.

run:    python make.py             (torch 2.11.0, transformers 5.23.0; a minute, CPU only)
writes: <base>/model/              a checkpoint, two or three blocks of width 16
        <base>/golden.safetensors  `<variant>.chosen.logits`, `<variant>.right.logits`
        <base>/golden.json         by variant: the keys of config.json that differ, losses, gradient norms, greedy text
        reference/model/           the frozen model of every KL and DPO here: a GPT-2, for both families
        meta.json                  versions, seed, hashes

One checkpoint serves many variants: each is the same weights under another config.json.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403

SEED = 20251121
# A prime, so that code that rounds or pads a vocabulary cannot be right by chance.
VOCAB = 37
PAD = 36  # also an ordinary token of the texts
N_POSITIONS = 24
N_NEW_TOKENS = 16
DPO_BETA = 0.1
HALVES = [torch.bfloat16, torch.float32, torch.float16]


# ---------------------------------------------------------------- checkpoints


def gpt2(seed, n_layer=2, n_head=4, **more):
    return new_model(GPT2Config(
        n_layer=n_layer, n_embd=16, n_head=n_head, n_positions=N_POSITIONS, vocab_size=VOCAB,
        bos_token_id=PAD, eos_token_id=PAD, pad_token_id=None,
        resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, **more), seed, std=0.3)


def gpt_neo(seed, attention_types, window_size, num_heads=4, **more):
    return new_model(GPTNeoConfig(
        num_layers=sum(len(kinds) * times for kinds, times in attention_types), hidden_size=16, num_heads=num_heads,
        max_position_embeddings=N_POSITIONS, attention_types=attention_types, window_size=window_size,
        vocab_size=VOCAB, bos_token_id=PAD, eos_token_id=PAD, pad_token_id=None,
        resid_dropout=0.1, embed_dropout=0.1, attention_dropout=0.1, **more), seed, std=0.3)


def plain(model, path):
    model.save_pretrained(path)


def rewritten(change):
    """Saves a checkpoint, then writes its tensors again as `change(dict of tensors)` has them."""

    def save(model, path):
        model.save_pretrained(path)
        file = path / "model.safetensors"
        tensors = change(safetensors.torch.load_file(file))
        safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})

    return save


def bare(tensors):
    """No `transformer.` prefix, as the published GPT-2."""
    return {name.removeprefix("transformer."): value for name, value in tensors.items()}


def with_masks(attention, also=()):
    """Mask buffers in the types they were ever stored in."""

    def change(tensors):
        mask = torch.tril(torch.ones(1, 1, N_POSITIONS, N_POSITIONS))
        extra = {f"transformer.h.0.{attention}.bias": mask.to(torch.uint8),
                 f"transformer.h.1.{attention}.bias": mask.bool(),
                 f"transformer.h.0.{attention}.masked_bias": torch.tensor(-1e4)}
        return tensors | extra | dict(also)

    return change


def mixed_shards(model, path):
    """Three shards by block, tensors in bfloat16, float32 and float16 in turn."""
    model.save_pretrained(path)
    whole = path / "model.safetensors"
    tensors = safetensors.torch.load_file(whole)
    shard_of, shards = {}, [{}, {}, {}]
    for i, (name, value) in enumerate(sorted(tensors.items())):
        shard = 0 if block_of(name) is None else 1 + block_of(name) % 2
        shards[shard][name] = value.to(HALVES[i % 3])
        shard_of[name] = f"model-{shard + 1:05}-of-00003.safetensors"
    for i, shard in enumerate(shards):
        file = path / f"model-{i + 1:05}-of-00003.safetensors"
        safetensors.torch.save_file(shard, file, metadata={"format": "pt"})
    whole.unlink()
    index = {"metadata": {"total_size": sum(v.nbytes for s in shards for v in s.values())}, "weight_map": shard_of}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def other_head(model, path):
    """Settings that tie, files that do not: transformers then warns and keeps both."""
    rewritten(lambda tensors: tensors | {"lm_head.weight": tensors["transformer.wte.weight"].flip(0) * 0.5})(model, path)


def bases():
    """`name -> (model, how to save it, {variant: keys of config.json that differ})`."""
    act = lambda *names: {f"act-{name}": {"activation_function": name} for name in names}
    eps = {"eps-0.1": {"layer_norm_epsilon": 0.1}, "eps-1e-12": {"layer_norm_epsilon": 1e-12}}
    windows = {f"window-{n}": {"window_size": n} for n in (1, 2, 23, 24, 100)}
    spans = lambda *kinds: {"attention_types": [[list(kinds), 1]], "attention_layers": list(kinds)}
    return {
        "gpt2": (gpt2(SEED), plain, {"plain": {}} | eps | act(
            "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu", "silu", "swish", "tanh") | {
            "unscaled": {"scale_attn_weights": False},
            "by-depth": {"scale_attn_by_inverse_layer_idx": True},
            "upcast": {"reorder_and_upcast_attn": True},
            "unscaled-by-depth-upcast": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True,
                                         "reorder_and_upcast_attn": True},
            "heads-1": {"n_head": 1}, "heads-16": {"n_head": 16},
        }),
        "gpt2-untied": (gpt2(SEED + 1, n_layer=3, n_inner=23, tie_word_embeddings=False), rewritten(bare), {"plain": {}}),
        "gpt2-stored-head": (gpt2(SEED + 2), rewritten(lambda t: with_masks("attn", [
            ("lm_head.weight", t["transformer.wte.weight"].clone())])(t)), {"plain": {}}),
        "gpt2-other-head": (gpt2(SEED + 3), other_head, {"plain": {}}),
        "gpt2-mixed": (gpt2(SEED + 4), mixed_shards, {"plain": {}}),
        "gpt-neo": (gpt_neo(SEED + 5, [[["global", "local"], 1]], 5), plain, {"plain": {}} | eps | windows | act(
            "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu", "silu", "swish", "tanh") | {
            "all-global": spans("global", "global"), "all-local": spans("local", "local"),
            "local-first": spans("local", "global"), "heads-1": {"num_heads": 1},
        }),
        "gpt-neo-untied": (
            gpt_neo(SEED + 6, [[["local"], 1], [["global", "local"], 1]], 3, num_heads=2, intermediate_size=23,
                    tie_word_embeddings=False), rewritten(lambda t: bare(with_masks("attn.attention")(t))), {"plain": {}}),
        "gpt-neo-mixed": (gpt_neo(SEED + 7, [[["global", "local"], 1]], 4), mixed_shards, {"plain": {}}),
    }


# ---------------------------------------------------------------- what is recorded


def inputs():
    """`right`: a text of exactly `N_POSITIONS` tokens and a short one. `chosen`, `rejected`: pads on both sides."""
    gen = torch.Generator().manual_seed(SEED)
    rows = lambda lengths: random_rows(gen, lengths, VOCAB)
    utility, prompts, chosen, rejected = rows([N_POSITIONS, 7]), rows([5, 3, 1]), rows([4, 7, 2]), rows([7, 2, 5])
    utility[0][3] = rejected[0][2] = PAD
    return {
        "right": right_padded(utility, PAD),
        "chosen": prompted(prompts, chosen, PAD),
        "rejected": prompted(prompts, rejected, PAD),
    }


def read(base, keys):
    """The checkpoint in float32 under a changed config.json."""
    config = json.loads((base / "model" / "config.json").read_text()) | keys
    kind = {"gpt2": GPT2Config, "gpt_neo": GPTNeoConfig}[config.pop("model_type")]
    return AutoModelForCausalLM.from_pretrained(
        base / "model", config=kind(**config), dtype=torch.float32, attn_implementation="eager").eval()


def record(model, reference, batches):
    """Losses with their gradient norms; KL on `right`, DPO on the pair, both against `reference`."""
    logits = {k: forward(model, batch) for k, batch in batches.items()}
    with torch.no_grad():
        ref = {k: forward(reference, batch) for k, batch in batches.items()}
    seq = lambda of, k: logp_seq(of[k], batches[k])
    losses = {
        "nll_right": nll_tok(logits["right"], batches["right"]),
        "nll_chosen": nll_tok(logits["chosen"], batches["chosen"]),
        "kl": divergence("forward", ref["right"], logits["right"], batches["right"][1]),
        "dpo": dpo(seq(logits, "chosen"), seq(logits, "rejected"), seq(ref, "chosen"), seq(ref, "rejected"), DPO_BETA)[0],
    }
    return {k: logits[k] for k in ("right", "chosen")}, {
        name: {"loss": loss, "grad": grad_norms(loss, model)} for name, loss in losses.items()}


@torch.no_grad()
def greedy(model):
    """Greedy text up to the last position, from the first seed whose every choice is clear: at least ten times the
    tolerance of the logits apart."""
    for seed in range(100):
        gen = torch.Generator().manual_seed(seed)
        start = left_padded(random_rows(gen, [N_POSITIONS - N_NEW_TOKENS, 3, 1], VOCAB), PAD)
        ids, real = start
        gap = float("inf")
        for _ in range(N_NEW_TOKENS):
            last = forward(model, (ids, real))[:, -1]
            best = last.topk(2).values
            gap = min(gap, (best[:, 0] - best[:, 1]).min().item())
            ids = torch.cat([ids, last.argmax(-1, keepdim=True)], 1)
            real = torch.cat([real, torch.ones(len(real), 1, dtype=torch.bool)], 1)
        if gap > 1e-3:
            break
    else:
        raise AssertionError("near ties from every seed")
    out = model.generate(start[0], attention_mask=start[1].long(), max_new_tokens=N_NEW_TOKENS, do_sample=False,
                         eos_token_id=VOCAB + 1, pad_token_id=PAD)
    assert torch.equal(out, ids), "transformers' cached generation disagrees with its own forward pass"
    return {"seed": seed, "smallest_logit_gap": gap, **batch_json(start), "new_tokens": ids[:, -N_NEW_TOKENS:]}


def main():
    batches = inputs()
    plain(gpt2(SEED + 99, n_head=2), fresh_dir(HERE / "reference") / "model")
    reference = load(HERE / "reference" / "model")
    hashes = {"reference": model_hash(HERE / "reference" / "model")}
    for name, (made, save, variants) in bases().items():
        base = fresh_dir(HERE / name)
        save(made, base / "model")
        hashes[name] = model_hash(base / "model")
        tensors, golden = {}, {}
        for variant, keys in variants.items():
            model = read(base, keys)
            logits, losses = record(model, reference, batches)
            tensors |= {f"{variant}.{k}.logits": v for k, v in logits.items()}
            golden[variant] = {"config": keys, **losses, "greedy": greedy(model)}
        write_tensors(base / "golden.safetensors", tensors)
        write_json(base / "golden.json", golden)
        readable(base)
        print(f"{name}: {len(variants)} variants, nll {golden['plain']['nll_right']['loss'].item():.4f}")
    write_json(HERE / "inputs.json", {k: batch_json(b) for k, b in batches.items()})
    readable(HERE)
    write_meta(HERE / "meta.json", SEED, hashes, generator="parity/corners/make.py", weights_dtype="float32, mixed",
               dpo_beta=DPO_BETA)


if __name__ == "__main__":
    main()
