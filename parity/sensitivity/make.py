"""Per-block values of every METHOD §3 metric with a definite formula, on the tiny models of parity/models.

run:    python make.py [CASE ...] (after ../models/make.py; torch 2.11.0, transformers 5.23.0; seconds, CPU only)
writes: <case>/golden.json        inputs and values by block
        <case>/meta.json          versions, seed, hashes

Conventions, where METHOD leaves a choice:
- Every metric but the two reductions is taken on batch 0. L- is the mean NLL over all counted tokens of the batch's
  rejected texts, prompt tokens included.
- `snip` uses the gradient of L- of the batch. `snip_per_example` is the mean over examples of sum |theta g_x|, with
  g_x as in `fisher`.
- `fisher`: the loss of example x is the mean NLL over its OWN counted tokens, so every example weighs the same.
- `contrast` divides by the same quantity on neutral text: `contrast_utility` on U, `contrast_chosen` on X+.
  eps = 1e-12.
- `act_dist`, `atp`: H_b is the residual stream leaving block b, before the final norm. Positions t = the first
  min(len y+, len y-) continuation positions; both texts of a pair start their continuation in the same column. On the
  prompt the two are equal, so including it would add 0.
- `act_dist`: Frobenius norm over those positions and all dimensions, then the mean over pairs.
- `atp`: one sum over all pairs, positions and dimensions, then the absolute value; the gradient is that of the
  batch's L-. `atp_by_pair` takes the absolute value of every pair's sum and adds those up.
- `norm_of_mean` is || (1/n) sum_i g(batch_i) ||, `mean_of_norm` is (1/n) sum_i || g(batch_i) ||: every batch weighs
  the same, whatever its number of tokens.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403

SEED = 20250602
CASES = ["gpt2", "gpt-neo", "llama", "gpt-neox", "olmo2", "gemma2", "phi3"]
EPS = 1e-12
LENGTHS = [  # prompts, chosen, rejected, utility; four pairs a batch
    ([5, 3, 1, 4], [4, 7, 2, 3], [7, 2, 5, 3], [12, 7, 4, 9]),
    ([2, 6, 3, 3], [5, 5, 1, 6], [4, 6, 6, 2], [6, 11, 3, 8]),
    ([4, 4, 7, 1], [3, 2, 4, 6], [3, 5, 1, 7], [10, 2, 12, 5]),
]


def inputs():
    gen = torch.Generator().manual_seed(SEED)
    batches = []
    for lengths in LENGTHS:
        prompts, chosen, rejected, utility = (random_rows(gen, n) for n in lengths)
        batches.append({
            "prompts": prompts, "chosen": chosen, "rejected": rejected, "utility": utility,
        })
    return batches


def chosen_of(batch):
    return prompted(batch["prompts"], batch["chosen"])


def rejected_of(batch):
    return prompted(batch["prompts"], batch["rejected"])


def utility_of(batch):
    return right_padded(batch["utility"])


def block_gradients(model, loss):
    """`[L]` lists of gradients, in the order of `parameters_by_block`."""
    blocks, _ = parameters_by_block(model)
    flat = torch.autograd.grad(loss, [p for block in blocks for _, p in block], retain_graph=True)
    flat = iter(flat)
    return [[next(flat) for _ in block] for block in blocks]


def norm(gradients):
    return math.sqrt(sum(g.double().square().sum().item() for g in gradients))


def forward_with_outputs(model, batch):
    """Logits and the output of every block, `[L]` of `[B,T,d]`, in the graph."""
    outputs = []
    keep = lambda module, args, out: outputs.append(out[0] if isinstance(out, tuple) else out)
    hooks = [block.register_forward_hook(keep) for block in blocks_of(model)]
    logits = forward(model, batch)
    for hook in hooks:
        hook.remove()
    return logits, outputs


def loss_gradients(model, batch):
    return block_gradients(model, nll_tok(forward(model, batch), batch))


def example_gradients(model, batch):
    ids, real = batch
    return [loss_gradients(model, (ids[i:i + 1], real[i:i + 1])) for i in range(len(ids))]


def on_batch(model, batch):
    blocks, _ = parameters_by_block(model)
    theta = [[p.detach() for _, p in block] for block in blocks]
    n_parameters = [sum(p.numel() for p in block) for block in theta]
    each = range(len(theta))

    g = loss_gradients(model, rejected_of(batch))
    s = [norm(block) for block in g]
    s_chosen = [norm(block) for block in loss_gradients(model, chosen_of(batch))]
    s_utility = [norm(block) for block in loss_gradients(model, utility_of(batch))]
    per_example = example_gradients(model, rejected_of(batch))
    saliency = lambda grads, b: sum((p.double() * q.double()).abs().sum().item() for p, q in zip(theta[b], grads[b]))
    square = lambda grads, b: sum(q.double().square().sum().item() for q in grads[b])

    # Activations: the continuation starts at one column for the whole batch.
    start = max(map(len, batch["prompts"]))
    shared = [min(len(c), len(r)) for c, r in zip(batch["chosen"], batch["rejected"])]
    logits, h_rejected = forward_with_outputs(model, rejected_of(batch))
    _, h_chosen = forward_with_outputs(model, chosen_of(batch))
    g_h = torch.autograd.grad(nll_tok(logits, rejected_of(batch)), h_rejected)
    at = lambda h, i: h[i, start:start + shared[i]].detach().double()
    pairs = range(len(shared))
    distance = lambda b, i: (at(h_rejected[b], i) - at(h_chosen[b], i)).square().sum().sqrt().item()
    effect = lambda b, i: (at(g_h[b], i) * (at(h_chosen[b], i) - at(h_rejected[b], i))).sum().item()

    return {
        "n_parameters": n_parameters,
        "grad_l2": s,
        "density": [s[b] / math.sqrt(n_parameters[b]) for b in each],
        "relative": [s[b] / norm(theta[b]) for b in each],
        "snip": [saliency(g, b) for b in each],
        "snip_per_example": [sum(saliency(x, b) for x in per_example) / len(per_example) for b in each],
        "fisher": [sum(square(x, b) for x in per_example) / len(per_example) for b in each],
        "contrast_utility": [s[b] / (s_utility[b] + EPS) for b in each],
        "contrast_chosen": [s[b] / (s_chosen[b] + EPS) for b in each],
        "act_dist": [sum(distance(b, i) for i in pairs) / len(shared) for b in each],
        "atp": [abs(sum(effect(b, i) for i in pairs)) for b in each],
        "atp_by_pair": [sum(abs(effect(b, i)) for i in pairs) for b in each],
    }


def over_batches(model, batches):
    gradients = [loss_gradients(model, rejected_of(batch)) for batch in batches]
    blocks = range(len(gradients[0]))
    mean = [[torch.stack(gs).double().mean(0) for gs in zip(*(g[b] for g in gradients))] for b in blocks]
    return {
        "norm_of_mean": [norm(mean[b]) for b in blocks],
        "mean_of_norm": [sum(norm(g[b]) for g in gradients) / len(gradients) for b in blocks],
    }


def main():
    batches = inputs()
    for name in sys.argv[1:] or CASES:
        model_dir = HERE.parent / "models" / name / "model"
        model = load(model_dir)
        path = fresh_dir(HERE / name)
        values = {**on_batch(model, batches[0]), **over_batches(model, batches)}
        write_json(path / "golden.json", {
            "model": f"parity/models/{name}/model", "pad_id": EOS, "eps": EPS, "batches": batches, "by_block": values,
        })
        write_meta(path / "meta.json", SEED, {"model": model_hash(model_dir)}, generator="parity/sensitivity/make.py")
        print(name, {k: [round(v, 4) for v in vs] for k, vs in values.items()})


if __name__ == "__main__":
    main()
