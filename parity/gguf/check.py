"""A directory that `irepair import` made, against the GGUF file it came from.

run:    python check.py tensors FILE.gguf DIR                        every tensor, bit for bit, against the package `gguf`
        python check.py tokens FILE.gguf DIR TEXT.. [--lines N] [--out IDS.jsonl]
                                                                     ids against llama.cpp's: lines of text files (plain or gzip),
                                                                     drawn evenly, and as many made-up texts as a fifth of them
        python check.py model DIR [--wikitext FILE] [--lambada FILE] perplexity of the first 10 windows of 1,024 tokens without
                                                                     begin-of-text token, last words of the first 200 texts,
                                                                     and greedy text, all by transformers

Needs the packages of meta.json; for `model` and `tokens` transformers and torch too. Prints what it compared; exit code 1 on
the first difference.
"""

import argparse
import gzip
import json
import sys
import time
from pathlib import Path


def tensors(file, directory):
    import numpy as np
    from gguf import GGUFReader, quants
    from safetensors import safe_open

    reader = GGUFReader(file)
    heads = {name: int(reader.fields[f"llama.attention.{key}"].contents()) for name, key in
             (("attn_q", "head_count"), ("attn_k", "head_count_kv"))}
    names = {
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head", "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    seen = set()
    with safe_open(Path(directory) / "model.safetensors", "numpy") as stored:
        for tensor in reader.tensors:
            *block, part, end = tensor.name.split(".")
            name = f"{names[part]}.{end}"
            if block:
                name = f"model.layers.{block[1]}.{name}"
            want = quants.dequantize(tensor.data, tensor.tensor_type)
            if part in heads:
                want = want.reshape(heads[part], -1, 2, *want.shape[1:]).swapaxes(1, 2).reshape(want.shape)
            got = stored.get_tensor(name)
            if got.shape != want.shape or (got.view(np.uint32) != np.ascontiguousarray(want).view(np.uint32)).any():
                sys.exit(f"{name} differs")
            seen.add(name)
        if set(stored.keys()) != seen:
            sys.exit(f"only in the directory: {set(stored.keys()) - seen}")
    print(f"{len(seen)} tensors are equal bit for bit")


def tokens(file, directory, paths, n_lines, out):
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    from llama_cpp import Vocabulary
    from texts import made_up

    lines = []
    for path in paths:
        raw = gzip.open(path, "rt") if str(path).endswith(".gz") else open(path)
        found = [line.rstrip("\n") for line in raw if line.strip()]
        share = max(1, n_lines // len(paths))
        lines += found[::max(1, len(found) // share)][:share]
    texts = lines + made_up(max(n_lines - len(lines), len(lines) // 5), 7)
    vocabulary = Vocabulary(file)
    plain = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    whole = AutoTokenizer.from_pretrained(directory)
    n_ids, records = 0, []
    for text in texts:
        want = vocabulary.ids(text)
        for got in (plain.encode(text, add_special_tokens=False).ids, whole(text, add_special_tokens=False)["input_ids"]):
            if got != want:
                sys.exit(f"{text!r}\n llama.cpp: {want}\n directory: {got}")
        if whole.decode(want) != plain.decode(want, skip_special_tokens=False):
            sys.exit(f"{text!r} is decoded in two ways")
        n_ids += len(want)
        records.append(json.dumps({"text": text, "ids": want}))
    if out:
        Path(out).write_text("\n".join(records) + "\n")
    print(f"{len(texts)} texts, {n_ids} ids: equal")


def model(directory, wikitext, lambada):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    net, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    print("loaded:", {key: len(value) for key, value in report.items()}, net.dtype)
    net.eval()
    encode = lambda text: torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        ids = encode("The capital of France is")
        said = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)[0, ids.shape[1]:]
        print("greedy:", repr(tokenizer.decode(said)))
        if wikitext:
            ids, total, n, began = encode(Path(wikitext).read_text()), 0.0, 0, time.time()
            for i in range(10):
                window = ids[:, i * 1024:(i + 1) * 1024]
                logp = net(window).logits[0, :-1].float().log_softmax(-1)
                total -= logp.gather(-1, window[0, 1:, None]).double().sum().item()
                n += window.shape[1] - 1
            print(f"perplexity: {torch.tensor(total / n).exp().item():.4f} over {n} tokens, {time.time() - began:.0f} s")
        if lambada:
            right = 0
            for line in Path(lambada).read_text().splitlines()[:200]:
                prompt, last = json.loads(line)["text"].rsplit(" ", 1)
                ids, n = encode(f"{prompt} {last}"), encode(prompt).shape[1]
                right += bool((net(ids).logits[0, n - 1:-1].argmax(-1) == ids[0, n:]).all())
            print(f"last words: {right} of 200")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("tensors", "tokens"):
        command = commands.add_parser(name)
        command.add_argument("file")
        command.add_argument("dir")
        if name == "tokens":
            command.add_argument("texts", nargs="+")
            command.add_argument("--lines", type=int, default=10_000)
            command.add_argument("--out")
    command = commands.add_parser("model")
    command.add_argument("dir")
    command.add_argument("--wikitext")
    command.add_argument("--lambada")
    given = parser.parse_args()
    if given.command == "tensors":
        tensors(given.file, given.dir)
    elif given.command == "tokens":
        tokens(given.file, given.dir, given.texts, given.lines, given.out)
    else:
        model(given.dir, given.wikitext, given.lambada)


if __name__ == "__main__":
    main()
