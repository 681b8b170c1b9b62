"""A file that `irepair export` made, by the Python package `gguf` and llama.cpp.

run:    python check_export.py OLD.gguf NEW.gguf DIR [--tokens N] [--tolerance T]
        OLD.gguf is the file that was imported, DIR the repaired directory (architecture llama), NEW.gguf its export

Compares, and stops at the first difference: metadata but the file type; the bytes of tensors whose values DIR did not change;
changed matrices with DIR's values rounded to F16, norms and biases with DIR's values. Then llama.cpp continues ten prompts
greedily, and so does transformers with DIR. Where the two texts part, prints how near to each other transformers' two best
tokens were: llama.cpp rounds activations to 8 bits before it multiplies them with quantised weights. Stops where logits of
llama.cpp's text differ by more than T times the range of transformers' (for files without quantised weights), or where texts
part at two tokens that are further apart than the logits differ.
Needs the packages of architectures.meta.json.
"""

import argparse
import sys

import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, quants
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from llama_cpp import Model
from make import permuted

PROMPTS = [
    "The capital of France is", "Water boils at", "My favourite book is", "def fibonacci(n):", "Once upon a time, there was", "The best way to learn",
    "In 1969, people", "A cat and a dog", "To make bread, you need", "The meaning of life"]
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head", "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def compare(old, new, directory):
    old, new = GGUFReader(old), GGUFReader(new)
    plain = lambda reader: {key: field.contents() for key, field in reader.fields.items() if key != "general.file_type"}
    if plain(old) != plain(new) or [t.name for t in old.tensors] != [t.name for t in new.tensors]:
        sys.exit("metadata or names of tensors differ")
    heads = {part: int(old.fields[f"llama.attention.{key}"].contents()) for part, key in (("attn_q", "head_count"), ("attn_k", "head_count_kv"))}
    n_same, n_changed = 0, 0
    with safe_open(f"{directory}/model.safetensors", "numpy") as stored:
        for before, after in zip(old.tensors, new.tensors):
            *block, part, end = before.name.split(".")
            value = stored.get_tensor((f"model.layers.{block[1]}." if block else "") + f"{NAMES[part]}.{end}")
            value = permuted(value, heads[part]) if part in heads else value
            if np.array_equal(quants.dequantize(before.data, before.tensor_type).view(np.uint32), value.view(np.uint32)):
                if before.tensor_type != after.tensor_type or before.data.tobytes() != after.data.tobytes():
                    sys.exit(f"{before.name} is unchanged and has other bytes")
                n_same += 1
                continue
            want = value if value.ndim == 1 or before.tensor_type == Q.F32 or np.isinf(value.astype(np.float16)).any() else value.astype(np.float16)
            if after.tensor_type.name != {"float32": "F32", "float16": "F16"}[str(want.dtype)] or not np.array_equal(after.data, want):
                sys.exit(f"{before.name} is {after.tensor_type.name} with other values")
            n_changed += 1
    print(f"{n_same} tensors have the old bytes, {n_changed} the new values; file type {new.fields['general.file_type'].contents()}")


def greedy(new, directory, n_tokens, tolerance):
    model = Model(new)
    print("llama.cpp loads it as", model.kind())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    net = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    n_equal, largest = 0, 0.0
    for prompt in PROMPTS:
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        rows, said = model.logits(ids, n_tokens)
        with torch.inference_mode():
            # Of every token but the last: the last row of `rows` follows it or is the one that chose it.
            here = net(torch.tensor([said])).logits[0, : len(said) - 1].numpy()
            batch = torch.tensor([ids])
            said_here = net.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=n_tokens, do_sample=False, eos_token_id=None)
        want = said_here[0].tolist()
        far = np.abs(np.array(rows[: len(here)]) - here).max(1)
        largest = max(largest, float(far.max() / np.ptp(here)))
        first = next((i for i, (a, b) in enumerate(zip(said, want)) if a != b), None)
        if first is None:
            n_equal += 1
            print(f"equal: {prompt!r} {tokenizer.decode(said[len(ids):])!r}")
            continue
        best = np.sort(here[first - 1])[-2:]
        print(f"parts after {first - len(ids)} tokens: {prompt!r}; the two best are {best[1] - best[0]:.3f} apart, logits differ by up to {far[first - 1]:.3f}")
        if best[1] - best[0] > 2 * far[first - 1]:
            sys.exit("the texts part where the logits do not")
    print(f"{n_equal} of {len(PROMPTS)} texts of {n_tokens} tokens are equal; logits differ by up to {largest:.2g} of their range")
    if tolerance is not None and not largest <= tolerance:
        sys.exit(f"at most {tolerance}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("old", "new", "dir"):
        parser.add_argument(name)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--tolerance", type=float)
    given = parser.parse_args()
    compare(given.old, given.new, given.dir)
    greedy(given.new, given.dir, given.tokens, given.tolerance)


if __name__ == "__main__":
    main()
