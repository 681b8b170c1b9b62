"""Ten training steps of every method, by a literal eager reading of METHOD §6-§8.

run:    python make.py            (torch 2.11.0, transformers 5.23.0; under a minute, CPU only)
writes: base-gpt2/, base-gpt-neo/ the models every trajectory starts from; theta0 is the same model, frozen
        inputs.json               pairs, four for every step in turn, and utility texts; the same for all cases
        <case>/golden.json        the settings and what each step did
        <case>/final.safetensors  every parameter after the last step
        <case>/meta.json          versions, seed, hashes, drift

As published, all forward passes of a step come first and the whole graph is kept; then the slice is chosen and the
objective's gradients outside it are dropped. An implementation that slices first must get the same numbers.

Conventions:
- Sensitivity is grad_l2 of L- = mean NLL over the counted tokens of X-, prompt included; ties to the lower block.
- Learning rate of step t (from 0): lr * min(1, (t+1)/(W+1)).
- Clipping is torch's: gradients are scaled by min(1, clip / (norm + 1e-6)); `grad_norm` is the norm before it, over
  the parameters the step updates.
- A parameter outside the slice has no gradient (None): the optimizer leaves its weights and its state alone.
- `nll` is the mean NLL of X+ over its counted tokens, absent for NPO, which does not read X+; `kl` is KL(theta0 || theta) on U before
  gamma, absent where the objective has no KL. All values are those before the update.
- RMSprop: alpha 0.99, eps 1e-8 outside the root. AdamW: betas 0.9/0.999, eps 1e-8 outside the root, decoupled
  decay 0.01, a step count per parameter.

`drift` in meta.json says how far a second run ends up when the starting weights are jittered by one part in 10^7,
about one f32 rounding: the scale on which two right implementations may differ.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403

# One of the seeds with which the slice of `irepair` visits three blocks, no choice is a near tie, and no trajectory
# hangs on a gradient entry so small that rounding decides its sign: RMSprop's first step along such an entry is as long
# as any.
SEED = 20250680
N_STEPS = 10
BATCH_SIZE = 4
VOCAB = 61
PAD = VOCAB - 1
# No utility text is longer than the longest pair of any batch. A position that only utility text reaches would get its
# whole gradient from KL, which is rounding noise at step 0, and RMSprop turns any noise into a full step.
UTILITY_LENGTH = 6
# A random model's lowest block has the largest gradient by far. Wider embeddings, and narrower norms in block 0, level
# the blocks, so that the choice of a slice is a real one and changes from step to step.
EMBEDDING_SCALE = 6.0
BLOCK_0_NORM_SCALE = 0.9
SMALLEST_GAP = 0.002  # relative distance between the last block chosen and the first left out

DEFAULTS = {
    "model": "base-gpt2",
    "objective": "irepair",     # irepair | dapt | dpo | npo
    "slice_k": 1,               # blocks updated per step; null = every parameter
    "optimizer": "rmsprop",     # rmsprop | adamw
    "lr": 2e-3,
    "warmup_steps": 3,
    "clip_norm": 10.0,
    "scale": 1.0, "nll_weight": 0.5, "kl_weight": 1.0,  # s, beta, gamma of METHOD §6
    "dpo_beta": 0.1, "npo_beta": 0.1,
}
CASES = {
    "irepair": {},
    "irepair-gpt-neo": {"model": "base-gpt-neo"},
    "irepair-top2": {"slice_k": 2},
    "irepair-clipped": {"clip_norm": 0.2},
    "irepair-adamw": {"optimizer": "adamw", "lr": 1e-2},
    "irepair-no-kl": {"kl_weight": 0.0},
    "dapt": {"objective": "dapt", "slice_k": None, "lr": 1e-3},
    "dapt-kl": {"slice_k": None, "lr": 1e-3},
    "dpo": {"objective": "dpo", "slice_k": None, "lr": 1e-3},
    "dpo-sliced": {"objective": "dpo", "lr": 1e-3},
    "npo": {"objective": "npo", "slice_k": None, "lr": 1e-3},
}


def base_models():
    gpt2 = new_model(gpt2_config(n_layer=4, n_embd=16, n_head=2, vocab=VOCAB), SEED)
    neo = new_model(gpt_neo_config([[["global", "local"], 2]], 5, hidden_size=16, num_heads=2, vocab=VOCAB), SEED + 1)
    for model in (gpt2, neo):
        body = model.transformer
        with torch.no_grad():
            for embedding in (body.wte, body.wpe):
                embedding.weight.mul_(EMBEDDING_SCALE)
            for norm in (body.h[0].ln_1, body.h[0].ln_2):
                norm.weight.mul_(BLOCK_0_NORM_SCALE)
    return {"base-gpt2": gpt2, "base-gpt-neo": neo}


def inputs():
    """Pairs of uneven lengths, four for every step, and four utility texts for all steps.

    Chosen, rejected and utility texts favour different tokens and three batches come round in turn, so that there is
    something to learn in ten steps. Drawing four of four utility texts without replacement gives the same batch in any
    order, so an implementation needs no random numbers of ours.
    """
    gen = torch.Generator().manual_seed(SEED)
    length = lambda n, low, high: torch.randint(low, high + 1, (n,), generator=gen).tolist()
    rows = lambda lengths, low, high: [[t + low for t in row] for row in random_rows(gen, lengths, high - low)]
    n = 3 * BATCH_SIZE
    columns = rows(length(n, 1, 5), 0, VOCAB), rows(length(n, 2, 7), 0, 20), rows(length(n, 2, 7), 15, 35)
    pairs = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in zip(*columns)]
    utility = rows(length(BATCH_SIZE, 3, UTILITY_LENGTH), 30, VOCAB)
    for first in range(0, n, BATCH_SIZE):
        longest = lambda side: max(len(pair["prompt"] + pair[side]) for pair in pairs[first:first + BATCH_SIZE])
        assert min(longest("chosen"), longest("rejected")) >= UTILITY_LENGTH
    return {"pad_id": PAD, "pairs": [pairs[i % n] for i in range(N_STEPS * BATCH_SIZE)], "utility": utility}


def step_batches(data, t):
    """X+, X- and U of step t, each `(ids, real)`."""
    pairs = data["pairs"][t * BATCH_SIZE:(t + 1) * BATCH_SIZE]
    prompts = [pair["prompt"] for pair in pairs]
    side = lambda name: prompted(prompts, [pair[name] for pair in pairs], PAD)
    return side("chosen"), side("rejected"), right_padded(data["utility"], PAD)


def choose(s, k):
    """The k blocks of largest sensitivity, ties to the lower block; refuses a near tie."""
    order = sorted(range(len(s)), key=lambda b: (-s[b], b))
    gap = (s[order[k - 1]] - s[order[k]]) / s[order[k - 1]]
    assert gap > SMALLEST_GAP, f"a near tie ({gap:.1e}) would make the slice depend on rounding: {s}"
    return sorted(order[:k])


def make_optimizer(kind, parameters, lr):
    if kind == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0)
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


def run(config, data, jitter=0.0):
    model, reference = load(HERE / config["model"]), load(HERE / config["model"])
    reference.requires_grad_(False)
    with torch.no_grad():
        gen = torch.Generator().manual_seed(SEED + 9)
        for p in model.parameters():
            p.mul_(1.0 + jitter * torch.randn(p.shape, generator=gen))
    parameters = list(model.named_parameters())
    blocks, _ = parameters_by_block(model)
    optimizer = make_optimizer(config["optimizer"], [p for _, p in parameters], config["lr"])
    records = []
    for t in range(N_STEPS):
        x_plus, x_minus, u = step_batches(data, t)
        record = {"step": t}

        # 1, 2: every forward pass, then the error's gradient and the slice
        z_plus, z_minus, z_u = forward(model, x_plus), forward(model, x_minus), forward(model, u)
        if config["slice_k"] is None:
            allowed = {name for name, _ in parameters}
            record["slice"] = list(range(len(blocks)))
        else:
            s = grad_norms(nll_tok(z_minus, x_minus), model)["by_block"]
            a = choose(s, config["slice_k"])
            allowed = {name for b in a for name, _ in blocks[b]}
            record |= {"slice": a, "sensitivities": s}

        # 3: the objective
        kl = divergence("forward", forward(reference, u), z_u, u[1])
        ref = lambda batch: logp_seq(forward(reference, batch), batch)
        if config["objective"] == "irepair":
            nll = nll_tok(z_plus, x_plus)
            loss = config["scale"] * (config["nll_weight"] * nll + config["kl_weight"] * kl)
            record["nll"] = nll
        elif config["objective"] == "dapt":
            loss = -logp_seq(z_plus, x_plus).mean()
            record["nll"] = nll_tok(z_plus, x_plus)
        elif config["objective"] == "dpo":
            loss, reward_chosen, reward_rejected, accuracy = dpo(
                logp_seq(z_plus, x_plus), logp_seq(z_minus, x_minus), ref(x_plus), ref(x_minus), config["dpo_beta"])
            record |= {"nll": nll_tok(z_plus, x_plus), "reward_chosen": reward_chosen, "reward_rejected": reward_rejected, "accuracy": accuracy}
        else:
            loss = npo(logp_seq(z_minus, x_minus), ref(x_minus), config["npo_beta"]) + config["kl_weight"] * kl
        if config["objective"] in ("irepair", "npo") and config["kl_weight"] > 0.0:
            record["kl"] = kl
        record["loss"] = loss

        # 4: backward, nothing left outside the slice, clip, step
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for name, p in parameters:
            if name not in allowed:
                p.grad = None
        updated = [p for name, p in parameters if name in allowed]
        lr = config["lr"] * min(1.0, (t + 1) / (config["warmup_steps"] + 1))
        for group in optimizer.param_groups:
            group["lr"] = lr
        record["lr"] = lr
        record["grad_norm"] = torch.nn.utils.clip_grad_norm_(updated, config["clip_norm"])
        before = {name: p.detach().clone() for name, p in parameters if name not in allowed}
        optimizer.step()
        assert all(torch.equal(before[name], p) for name, p in parameters if name in before)
        records.append(to_lists(record))
    return records, {name: p.detach().clone() for name, p in parameters}


def without_key_bias(tensors):
    """GPT-2's key bias adds one constant to all scores of a query, which softmax ignores: its true gradient is 0, and
    what RMSprop makes of the rounding noise there is arbitrary. It is left out of every comparison of weights."""
    out = {}
    for name, t in tensors.items():
        if name.endswith("attn.c_attn.bias"):
            d = len(t) // 3
            t = torch.cat([t[:d], t[2 * d:]])
        out[name] = t
    return out


def drift(config, data, records, final):
    other, end = run(config, data, jitter=1e-7)
    assert [r["slice"] for r in other] == [r["slice"] for r in records]
    final, end = without_key_bias(final), without_key_bias(end)
    gaps = torch.cat([(final[k] - end[k]).abs().flatten() for k in final])
    moved = {
        "loss_max": max(abs(a["loss"] - b["loss"]) for a, b in zip(records, other)),
        "weight_max": gaps.max().item(),
        "weight_share_over_1e-5": (gaps > 1e-5).float().mean().item(),
    }
    assert moved["loss_max"] < 2e-5, f"too ill-conditioned to compare anything with: {moved}"
    return moved


def main():
    for name, model in base_models().items():
        model.save_pretrained(fresh_dir(HERE / name))
        readable(HERE / name)
    data = inputs()
    write_json(HERE / "inputs.json", data)
    for name, changes in CASES.items():
        config = {**DEFAULTS, **changes}
        path = fresh_dir(HERE / name)
        records, final = run(config, data)
        write_json(path / "golden.json", {"config": config, "steps": records})
        write_tensors(path / "final.safetensors", final)
        moved = drift(config, data, records, final)
        write_meta(path / "meta.json", SEED, {"model": model_hash(HERE / config["model"])},
                   generator="parity/trajectories/make.py", drift=moved)
        readable(path)
        print(name, [round(r["loss"], 3) for r in records], "slices", [r["slice"] for r in records],
              "grad", [round(r["grad_norm"], 2) for r in records], moved)


if __name__ == "__main__":
    main()
