"""Per-block values of the locators of METHOD §3 `eap_ig`, `patching`, `snip_diff` and `wanda_diff`, on the same inputs.

run:    python make_locators.py [CASE ...] (after make.py; torch 2.11.0, transformers 5.23.0; seconds, CPU only)
writes: <case>/locators.json        values by block
        <case>/locators.meta.json   versions, hashes

Conventions, where METHOD leaves a choice; those of make.py hold here too:
- Everything is taken on batch 0 of golden.json. L- is the mean NLL over all counted tokens of the batch's rejected texts.
- `patching`: block b adds D_b = H_b - H_(b-1) to the residual stream. H_b of the rejected texts, with D_b(X+) in place of
  D_b(X-) at the first min(len y+, len y-) continuation positions of each pair; L- with that output, less L-. `patching`
  is 0 where that is negative, `patching_change` is it.
- `eap_ig`: at m = 5 points p = 0.1, 0.3, .. 0.9, the output of block b alone is H_b(X-) + p (D_b(X+) - D_b(X-)) at those
  positions. The mean over points of the gradient of L- there, times that difference, summed, then the absolute value.
- `snip_diff`, `wanda_diff`: every weight of a block has a score on error text X- and on neutral text N. The top set of
  a text holds the k = round(0.05 n) weights of the largest score, n being the number of weights that have one, in all
  blocks together. A block's value is the number of its weights in the top set of X- and not in that of N, over the
  number of its weights that have a score. N is U (`_utility`) or X+ (`_chosen`).
- `snip_diff` has |w g|, g the gradient of the batch's mean NLL; `wanda_diff` |w_ij| |x_j|_2, x_j the input j of the
  linear layer at all real tokens of the batch; matrices alone.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from make import *  # noqa: E402,F403

POINTS = [0.1, 0.3, 0.5, 0.7, 0.9]
SHARE = 0.05


def with_output(model, b, output):
    """L- of the rejected batch is taken with `output` in place of what block b gives."""
    swap = lambda module, args, out: (output, *out[1:]) if isinstance(out, tuple) else output
    return blocks_of(model)[b].register_forward_hook(swap)


def loss_with(model, batch, b, output):
    hook = with_output(model, b, output)
    try:
        return nll_tok(forward(model, batch), batch)
    finally:
        hook.remove()


def run(model, batch):
    """L- of a batch, what its blocks give, and what they add to what they are given."""
    given = []
    hooks = [block.register_forward_pre_hook(lambda module, args, kwargs: given.append(
        args[0] if args else kwargs["hidden_states"]), with_kwargs=True) for block in blocks_of(model)]
    try:
        logits, outputs = forward_with_outputs(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    added = [(out - x).detach() for x, out in zip(given, outputs, strict=True)]
    return nll_tok(logits, batch).item(), outputs, added


def activations(model, batch):
    rejected, chosen = rejected_of(batch), chosen_of(batch)
    start = max(map(len, batch["prompts"]))
    before, minus, added_minus = run(model, rejected)
    _, _, added_plus = run(model, chosen)

    def between(b, point):
        out = minus[b].detach().clone()
        for i, (c, r) in enumerate(zip(batch["chosen"], batch["rejected"], strict=True)):
            at = slice(start, start + min(len(c), len(r)))
            out[i, at] += point * (added_plus[b][i, at] - added_minus[b][i, at])
        return out

    patched, attribution = [], []
    for b in range(len(minus)):
        with torch.no_grad():
            patched.append(loss_with(model, rejected, b, between(b, 1.0)).item() - before)
        way = (between(b, 1.0) - between(b, 0.0)).double()
        total = 0.0
        for point in POINTS:
            output = between(b, point).requires_grad_()
            gradient, = torch.autograd.grad(loss_with(model, rejected, b, output), [output])
            total += (gradient.double() * way).sum().item()
        attribution.append(total / len(POINTS))
    return {
        "patching_change": patched, "patching": [max(0.0, change) for change in patched],
        "eap_ig": [abs(total) for total in attribution],
    }


def top(scores):
    """Masks by block of the top share of all scores."""
    flat = torch.cat([s.flatten() for block in scores for s in block])
    smallest = flat.topk(round(SHARE * len(flat))).values.min()
    return [[s >= smallest for s in block] for block in scores]


def left(error, neutral):
    shares = []
    for ours, theirs in zip(top(error), top(neutral), strict=True):
        n = sum((a & ~b).sum().item() for a, b in zip(ours, theirs, strict=True))
        shares.append(n / sum(a.numel() for a in ours))
    return shares


def snip_scores(model, batch):
    blocks, _ = parameters_by_block(model)
    gradients = loss_gradients(model, batch)
    return [[(p.detach() * g).abs() for (_, p), g in zip(block, grads, strict=True)]
            for block, grads in zip(blocks, gradients, strict=True)]


def wanda_scores(model, batch):
    """A linear layer is what holds a matrix: `Linear`, or GPT-2's `Conv1D`, whose matrix is `[in, out]`."""
    _, real = batch
    scores = []
    for block in blocks_of(model):
        found, hooks = [], []
        for module in block.modules():
            if getattr(module, "weight", None) is None or module.weight.dim() != 2:
                continue

            def keep(module, args):
                norms = args[0][real].square().sum(0).sqrt()
                is_linear = isinstance(module, torch.nn.Linear)
                found.append((module.weight.abs() * (norms[None] if is_linear else norms[:, None])).detach())

            hooks.append(module.register_forward_pre_hook(keep))
        with torch.no_grad():
            forward(model, batch)
        for hook in hooks:
            hook.remove()
        assert len(found) == len(hooks)
        scores.append(found)
    return scores


def main():
    for name in sys.argv[1:] or CASES:
        model_dir = HERE.parent / "models" / name / "model"
        model, path = load(model_dir), HERE / name
        batch = json.loads((path / "golden.json").read_text())["batches"][0]
        values = activations(model, batch)
        for key, scores in [("snip_diff", snip_scores), ("wanda_diff", wanda_scores)]:
            error = scores(model, rejected_of(batch))
            values[f"{key}_utility"] = left(error, scores(model, utility_of(batch)))
            values[f"{key}_chosen"] = left(error, scores(model, chosen_of(batch)))
        write_json(path / "locators.json", {"model": f"parity/models/{name}/model", "by_block": values})
        write_meta(path / "locators.meta.json", SEED, {"model": model_hash(model_dir)},
                   generator="parity/sensitivity/make_locators.py")
        print(name, {k: [round(v, 4) for v in vs] for k, vs in values.items()})


if __name__ == "__main__":
    main()
