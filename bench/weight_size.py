"""Ranks the units of planted mutants by the size of their weights alone, reading no text: a control for locators.

run: cargo xtask localise --spread one --metric random --export MUTANTS
     python bench/weight_size.py MUTANTS RANKINGS/weight-size
     cargo xtask localise --spread one --metric random --rankings RANKINGS/weight-size

A unit's score is the root mean square of its weights (matrices, no biases): of a block all of them, of a half those of
its attention or MLP, of a head its rows of query, key and value and its columns of the projection out, of a neuron its
row into the MLP and its column out of it. GPT-2 and GPT-Neo.
"""

import json
import pathlib
import sys

from safetensors.torch import load_file


def blocks(directory):
    """Query, key, value, projection out, into the MLP and out of it, of each block, as [out, in]; and the heads."""
    config = json.loads((directory / "config.json").read_text())
    files = sorted(directory.glob("*.safetensors"))
    tensors = {name.removeprefix("transformer."): tensor.float() for file in files for name, tensor in load_file(file).items()}
    is_neo = config["model_type"] == "gpt_neo"
    n_heads = config["num_heads" if is_neo else "n_head"]
    for block in range(config["num_layers" if is_neo else "n_layer"]):
        weight = lambda name: tensors[f"h.{block}.{name}.weight"]
        if is_neo:
            attention = [weight(f"attn.attention.{part}_proj") for part in ("q", "k", "v", "out")]
            yield block, n_heads, attention, [weight("mlp.c_fc"), weight("mlp.c_proj")]
        else:
            attention = [*weight("attn.c_attn").T.chunk(3), weight("attn.c_proj").T]
            yield block, n_heads, attention, [weight("mlp.c_fc").T, weight("mlp.c_proj").T]


def size(parts):
    return (sum(part.square().sum() for part in parts) / sum(part.numel() for part in parts)).sqrt().item()


def units(kind, block, n_heads, attention, mlp):
    """`(unit, score)` of the units of a kind in a block."""
    if kind == "block":
        return [(f"{block}", size(attention + mlp))]
    if kind == "half":
        return [(f"{block}.attention", size(attention)), (f"{block}.mlp", size(mlp))]
    if kind == "head":
        *into, out = attention
        heads = zip(*(part.chunk(n_heads) for part in into), out.chunk(n_heads, dim=1))
        return [(f"{block}.head.{i}", size(head)) for i, head in enumerate(heads)]
    into, out = mlp
    squares = (into.square().sum(1) + out.square().sum(0)) / (into.shape[1] + out.shape[0])
    return [(f"{block}.neuron.{i}", score) for i, score in enumerate(squares.sqrt().tolist())]


def main():
    mutants, rankings = map(pathlib.Path, sys.argv[1:])
    rankings.mkdir(parents=True, exist_ok=True)
    for mutant in sorted(mutants.iterdir()):
        if mutant.name.startswith("."):
            continue
        kind = mutant.name.split("-")[-2]
        scores = [unit for block in blocks(mutant / "model") for unit in units(kind, *block)]
        lines = (json.dumps({"unit": unit, "score": score}) + "\n" for unit, score in scores)
        (rankings / f"{mutant.name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
