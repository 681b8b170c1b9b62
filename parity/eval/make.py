"""The metrics of METHOD §9 and §10 on a tiny checkpoint, computed one text at a time.

run:    python make.py    (torch 2.11.0, transformers 5.23.0; seconds, CPU only), after ../models/make.py
reads:  ../models/gpt2/{model,reference}
writes: golden.json  inputs and metrics;  meta.json  versions, seed, hashes

Conventions
  perplexity     window w holds T_w tokens; m_w is the loss transformers gives for the window as its own labels, that is the
                 mean over T_w - 1 predictions; exp(sum T_w m_w / sum T_w). A last window of one token is left out.
  strided        as above with windows every `stride` tokens; labels that an earlier window scored are -100, and T_w is the
                 number of the others.
  cloze          correct: every target token is the argmax given the context and the target so far; perplexity
                 exp(-mean log p(target)), one term per item. A context that does not fit keeps its last
                 n_positions - len(target) tokens; an empty one becomes [EOS].
  continuation   exp(-mean log p) over all continuation tokens, given the prompt, under the reference.
  kl_heldout     KL(reference || model), mean over every position of every text, the last ones included.
  relative_change  norm of the difference over norm of the reference, per block and for all other parameters.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from common import *  # noqa: E402,F403

SEED = 20250602
CONTEXT = 64  # positions of the checkpoint
SMALLEST_GAP = 1e-3  # between the two best logits wherever a greedy choice is recorded


def windowed_perplexity(model, tokens, window, stride):
    total, count, seen = 0.0, 0, 0
    for start in range(0, len(tokens), stride):
        end = min(start + window, len(tokens))
        ids = torch.tensor([tokens[start:end]])
        labels = ids.clone()
        labels[:, : seen - start] = -100
        n_new = end - seen if seen > start else end - start
        if end - start > 1:
            total += n_new * model(input_ids=ids, labels=labels).loss.item()
            count += n_new
        seen = end
        if end == len(tokens):
            break
    return {"n_tokens": len(tokens), "window": window, "stride": stride, "n": count,
            "perplexity": math.exp(total / count)}


def log_probs(model, tokens):
    """`[T-1, V]`: next-token log-probabilities after each token but the last."""
    return model(input_ids=torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)


def cloze_item(model, context, target):
    kept = (context or [EOS])[-(CONTEXT - len(target)):]
    predictions = log_probs(model, kept + target)[len(kept) - 1:]
    best = predictions.topk(2).values
    assert (best[:, 0] - best[:, 1]).min() > SMALLEST_GAP
    logp = predictions.gather(-1, torch.tensor(target)[:, None]).sum().item()
    return {"context": context, "target": target, "log_prob": logp,
            "correct": predictions.argmax(-1).tolist() == target}


def greedy(model, tokens, n):
    tokens = list(tokens)
    for _ in range(n):
        tokens.append(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax().item())
    return tokens[-n:]


def cloze(model, gen):
    items = []
    for n_context, n_target, kind in [(9, 1, "right"), (20, 3, "right"), (5, 2, "wrong"), (13, 1, "wrong"),
                                      (80, 2, "right"), (62, 2, "right"), (63, 2, "wrong"), (0, 1, "right"),
                                      (31, 3, "last wrong")]:
        context = random_rows(gen, [n_context])[0] if n_context else []
        kept = (context or [EOS])[-(CONTEXT - n_target):]
        target = greedy(model, kept, n_target)
        if kind == "wrong":
            target = random_rows(gen, [n_target])[0]
        elif kind == "last wrong":
            target[-1] = (target[-1] + 1) % VOCAB
        items.append(cloze_item(model, context, target))
        assert items[-1]["correct"] == (kind == "right")
    return {
        "items": items,
        "n_truncated": sum(len(i["context"]) + len(i["target"]) > CONTEXT for i in items),
        "accuracy_percent": 100.0 * sum(i["correct"] for i in items) / len(items),
        "perplexity": math.exp(-sum(i["log_prob"] for i in items) / len(items)),
    }


def continuation(reference, gen):
    prompts, continuations = random_rows(gen, [4, 32, 1, 11]), random_rows(gen, [20, 20, 7]) + [[]]
    total, n = 0.0, 0
    for prompt, tokens in zip(prompts, continuations, strict=True):
        if tokens:
            predictions = log_probs(reference, prompt + tokens)[len(prompt) - 1:]
            total += predictions.gather(-1, torch.tensor(tokens)[:, None]).sum().item()
            n += len(tokens)
    return {"prompts": prompts, "continuations": continuations, "n": n, "perplexity": math.exp(-total / n)}


def kl_heldout(reference, model, gen):
    texts = random_rows(gen, [17, 1, 64, 30])
    total, n = 0.0, 0
    for text in texts:
        ids = torch.tensor([text])
        p0, p = (m(input_ids=ids).logits[0].log_softmax(-1) for m in (reference, model))
        total += (p0.exp() * (p0 - p)).sum().item()
        n += len(text)
    return {"texts": texts, "n": n, "nats_per_token": total / n}


def relative_change(reference, model):
    (before, before_rest), (after, after_rest) = parameters_by_block(reference), parameters_by_block(model)

    def ratio(old, new):
        change = sum((b - a).double().square().sum() for (_, a), (_, b) in zip(old, new, strict=True))
        return math.sqrt(change / sum(a.double().square().sum() for _, a in old))

    return {"by_block": [ratio(a, b) for a, b in zip(before, after, strict=True)],
            "non_block": ratio(before_rest, after_rest)}


@torch.no_grad()
def main():
    gen = torch.Generator().manual_seed(SEED)
    paths = {name: HERE.parent / "models" / "gpt2" / name for name in ("model", "reference")}
    model, reference = load(paths["model"]), load(paths["reference"])
    tokens = random_rows(gen, [203])[0]
    # 203 = 3 * 64 + 11; 193 leaves a last window of one token.
    cases = [(203, 64, 64), (193, 64, 64), (203, 16, 16), (40, 64, 64), (203, 64, 32), (203, 64, 63), (193, 10, 3)]
    write_json(HERE / "golden.json", {
        "model": "models/gpt2/model",
        "reference": "models/gpt2/reference",
        "eos_id": EOS,
        "tokens": tokens,
        "perplexity": [windowed_perplexity(model, tokens[:n], window, stride) for n, window, stride in cases],
        "cloze": cloze(model, gen),
        "continuation": continuation(reference, gen),
        "kl_heldout": kl_heldout(reference, model, gen),
        "relative_change": relative_change(reference, model),
    })
    write_meta(HERE / "meta.json", SEED, {name: model_hash(path) for name, path in paths.items()},
               generator="parity/eval/make.py")


if __name__ == "__main__":
    main()
