"""Values of the locator `mask` (METHOD §3) for every block, half, head and neuron, on the inputs of make.py.

run:    python make_mask.py [CASE ...] (after make.py; torch 2.11.0, transformers 5.23.0; a minute, CPU only)
writes: <case>/mask.json        values by kind of unit, in the units' order
        <case>/mask.meta.json   versions, hashes

Conventions; those of make.py hold here too:
- Everything is taken on batch 0 of golden.json.
- A gate multiplies inputs of the projection out of attention or MLP: of a head its columns, of a neuron its one, of a
  half all of them, of a block those of both halves. Where the half's output is normalised before it is added to the
  stream (OLMo 2, Gemma 2), gates of halves and blocks multiply what comes out of that norm.
- Objective: mean over pairs of softplus(mean log p(y-) - mean log p(y+)), means over counted continuation tokens, and
  LAMBDA times the mean over units of the probability that the gate is below 1.
- Training: see `trained`. All of its gradients are autograd's. A value is sigmoid(-log_alpha) after the last step.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from make import *  # noqa: E402,F403

STEPS, RATE, LAMBDA, START = 20, 0.5, 0.1, 2.0
BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
GOLDEN, SILVER = (math.sqrt(5) - 1) / 2, math.sqrt(2) - 1

# Modules of a block: projection out of attention, out of the MLP; norms of what these give.
PROJECTIONS = {
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "gpt_neo": ("attn.attention.out_proj", "mlp.c_proj"),
    "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"),
}
NORMS = dict.fromkeys(["olmo2", "gemma2"], ("post_attention_layernorm", "post_feedforward_layernorm"))


def stretched(s):
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def sampled(log_alpha, u):
    return stretched(torch.sigmoid((u.log() - (1 - u).log() + log_alpha) / BETA))


def expected(log_alpha):
    return stretched(torch.sigmoid(log_alpha))


def below_one(log_alpha):
    """P(z < 1): the stretched variable is below 1 where s is below this threshold."""
    threshold = (1 - GAMMA) / (ZETA - GAMMA)
    return torch.sigmoid(BETA * math.log(threshold / (1 - threshold)) - log_alpha)


def noise(step, n):
    u = [((unit + 1) * GOLDEN + (step + 1) * SILVER) % 1.0 for unit in range(n)]
    return torch.tensor(u, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)


def put_gates(model, kind, z):
    """Hooks that multiply by `z`, `[L, n]`."""
    of = model.config.model_type
    norms = NORMS.get(of) if kind in ("block", "half") else None
    names = PROJECTIONS.get(of, ("self_attn.o_proj", "mlp.down_proj"))
    halves = {"block": (0, 1), "half": (0, 1), "head": (0,), "neuron": (1,)}[kind]
    hooks = []
    for b, block in enumerate(blocks_of(model)):
        for half in halves:
            gates = {"block": z[b], "half": z[b, half:half + 1], "head": z[b], "neuron": z[b]}[kind].float()
            if norms is None:
                def before(module, args, gates=gates):
                    return (args[0] * gates.repeat_interleave(args[0].shape[-1] // len(gates)),)

                hooks.append(block.get_submodule(names[half]).register_forward_pre_hook(before))
            else:
                after = lambda module, args, out, gates=gates: out * gates
                hooks.append(block.get_submodule(norms[half]).register_forward_hook(after))
    return hooks


def mean_logp(model, batch, start):
    ids, real = batch
    logp, counts = token_logp(forward(model, batch), batch), counted(real)
    # Target t of `[B,T-1]` is token t + 1.
    return logp[:, start - 1:].sum(-1) / counts[:, start - 1:].sum(-1)


def objective(model, batch, kind, z, log_alpha):
    start = max(map(len, batch["prompts"]))
    hooks = put_gates(model, kind, z)
    try:
        ahead = mean_logp(model, rejected_of(batch), start) - mean_logp(model, chosen_of(batch), start)
    finally:
        for hook in hooks:
            hook.remove()
    return F.softplus(ahead).mean().double() + LAMBDA * below_one(log_alpha).mean()


def trained(model, batch, kind, shape):
    """A step moves `log_alpha` by RATE times the gradient over a scale, or by RATE where that is more. The scale is the
    largest gradient by a gate, at the gates without noise before the first step, times the slope of the steepest gate."""
    log_alpha = torch.full(shape, START, dtype=torch.float64, requires_grad=True)
    z = expected(log_alpha).detach().requires_grad_()
    by_gates, = torch.autograd.grad(objective(model, batch, kind, z, log_alpha), [z])
    scale = by_gates.abs().max().item() * (ZETA - GAMMA) / BETA / 4
    for step in range(STEPS):
        z = sampled(log_alpha, noise(step, log_alpha.numel()).view(shape))
        gradient, = torch.autograd.grad(objective(model, batch, kind, z, log_alpha), [log_alpha])
        log_alpha = (log_alpha - RATE * (gradient / scale).clamp(-1, 1)).detach().requires_grad_()
    return torch.sigmoid(-log_alpha.detach()).flatten()


def main():
    for name in sys.argv[1:] or CASES:
        model_dir = HERE.parent / "models" / name / "model"
        model, path = load(model_dir), HERE / name
        batch = json.loads((path / "golden.json").read_text())["batches"][0]
        config, n_blocks = model.config, len(blocks_of(model))
        names = PROJECTIONS.get(config.model_type, ("self_attn.o_proj", "mlp.down_proj"))
        down = blocks_of(model)[0].get_submodule(names[1])
        n_inner = down.weight.shape[0 if config.model_type == "gpt2" else 1]
        n_each = {"block": 1, "half": 2, "head": config.num_attention_heads, "neuron": n_inner}
        values = {kind: trained(model, batch, kind, (n_blocks, n)) for kind, n in n_each.items()}
        write_json(path / "mask.json", {"model": f"parity/models/{name}/model", "by_unit": values})
        write_meta(path / "mask.meta.json", SEED, {"model": model_hash(model_dir)},
                   generator="parity/sensitivity/make_mask.py")
        print(name, {k: [round(v, 4) for v in vs.tolist()[:12]] for k, vs in values.items()})


if __name__ == "__main__":
    main()
