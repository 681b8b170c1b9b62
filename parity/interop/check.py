"""Checks that transformers loads an unchanged model directory and computes the numbers that irepair computed.

run:    python check.py MODEL_DIR GOLDEN.json [MODEL_DIR GOLDEN.json ...]
GOLDEN: what `cargo run -p irepair-cli --example logits -- MODEL_DIR TEXTS.json` printed
Of an adapter, peft loads MODEL_DIR on the base that it names; GOLDEN is of the repaired model.

Wants: no missing, unexpected or misshapen tensor, not one warning, the same token ids and decoded texts, logits within
2e-5 (absolute below 1, relative above), the same greedy text. Exit code 1 on any difference.
"""

import json
import logging
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 2e-5


class Warnings(logging.Handler):
    """Keeps what transformers says at warning level or above."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


def check(path, golden, warnings):
    """Yields what is wrong."""
    warnings.said.clear()
    adapter = os.path.join(path, "adapter_config.json")
    base = path
    if os.path.exists(adapter):
        with open(adapter, encoding="utf-8") as file:
            base = os.path.join(os.path.dirname(path), json.load(file)["base_model_name_or_path"])
    model, info = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if base != path:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, path)
    yield from (f"{key}: {value}" for key, value in info.items() if value)
    yield from (f"warning: {said}" for said in warnings.said)
    if tokenizer.eos_token_id != golden["eos_id"]:
        yield f"end-of-text token {tokenizer.eos_token_id}, irepair has {golden['eos_id']}"
    worst = 0.0
    for row in golden["texts"]:
        text, ids = row["text"], row["ids"]
        got = tokenizer(text, add_special_tokens=False)["input_ids"]
        if got != ids:
            yield f"{text!r}: ids {got}, irepair has {ids}"
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        if decoded != row["decoded"]:
            yield f"{text!r}: decoded {decoded!r}, irepair has {row['decoded']!r}"
        want = torch.tensor(row["logits"])
        with torch.no_grad():
            logits = model.eval()(torch.tensor([ids])).logits[0]
        delta = ((logits - want).abs() / logits.abs().clamp(min=1)).max().item() if logits.shape == want.shape else float("nan")
        worst = max(worst, delta)
        if not delta <= TOLERANCE:
            yield f"{text!r}: logits off by {delta:.1e}, shapes {tuple(logits.shape)} and {tuple(want.shape)}"
        # Only the weights matter: the directory's sampling settings are ignored.
        n = len(row["greedy"])
        with torch.no_grad():
            for token in row["greedy"]:
                best = model(torch.tensor([ids])).logits[0, -1].topk(2)
                if best.indices[0].item() != token and (best.values[0] - best.values[1]).item() > 1e-4:
                    yield f"{text!r}: greedy token {best.indices[0].item()}, irepair has {token} ({n} in all)"
                ids = ids + [token]
    print(f"{path}: max |Δ| of logits {worst:.0e}")


def main():
    warnings = Warnings()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.add_handler(warnings)
    arguments = sys.argv[1:]
    if not arguments or len(arguments) % 2:
        sys.exit(__doc__)
    n_wrong = 0
    for path, golden in zip(arguments[::2], arguments[1::2]):
        with open(golden, encoding="utf-8") as file:
            for wrong in check(path, json.load(file), warnings):
                print(f"{path}: {wrong}", file=sys.stderr)
                n_wrong += 1
    if n_wrong:
        sys.exit(f"{n_wrong} differences")


if __name__ == "__main__":
    main()
