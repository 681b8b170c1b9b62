"""Repaired models as GGUF, by the Python package `gguf`: what `irepair export` must write, byte for byte.

run:    python make_export.py      (after make.py; gguf, numpy, safetensors, xllamacpp as in meta.json; seconds)
writes: mixed.gguf                 the case `qwen2` with a file type and tensors at multiples of 64
        <case>.repaired.safetensors  the changed tensors of a repair, as Hugging Face has them
        <case>.repaired.gguf       the file with them: matrices in F16, or F32 where values are too large; norms and biases in F32

llama.cpp must load each file.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors.numpy import load_file, save_file

from llama_cpp import Model
from make import HERE, SEED, finish, permuted

# By case: file type after the repair; changed tensors, with their old names and the heads of permuted ones; tensors
# with values over 65504.
REPAIRS = {
    "gpt-2": (None, {
        "model.layers.0.self_attn.q_proj.weight": ("blk.0.attn_q.weight", 2), "model.layers.0.self_attn.q_proj.bias": ("blk.0.attn_q.bias", 2),
        "model.layers.0.self_attn.k_proj.bias": ("blk.0.attn_k.bias", 2), "model.layers.0.mlp.down_proj.weight": ("blk.0.ffn_down.weight", None),
        "model.norm.weight": ("output_norm.weight", None), "lm_head.weight": ("output.weight", None)}, ["lm_head.weight"]),
    "mixed": (1, {
        "model.layers.0.self_attn.k_proj.weight": ("blk.0.attn_k.weight", 4), "model.layers.0.self_attn.v_proj.weight": ("blk.0.attn_v.weight", None),
        "model.layers.0.mlp.up_proj.weight": ("blk.0.ffn_up.weight", None), "model.layers.0.mlp.gate_proj.weight": ("blk.0.ffn_gate.weight", None),
        "model.embed_tokens.weight": ("token_embd.weight", None)}, []),
}


def copy(source, path, file_type, alignment, changed):
    """`source` with another file type, alignment and tensors, if given."""
    reader = GGUFReader(source)
    writer = GGUFWriter(path, reader.fields["general.architecture"].contents())
    version = int(reader.fields["GGUF.version"].contents())
    for field in list(reader.fields.values()):
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.alignment"):
            continue
        value = file_type if field.name == "general.file_type" else field.contents()
        sub = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub)
    if file_type is not None and "general.file_type" not in reader.fields:
        writer.add_file_type(file_type)
    if alignment:
        writer.add_custom_alignment(alignment)
    for tensor in reader.tensors:
        new = changed.get(tensor.name)
        if new is None:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            writer.add_tensor(tensor.name, new)
    finish(writer)
    raw = bytearray(Path(path).read_bytes())
    raw[4] = version
    Path(path).write_bytes(raw)


def main():
    rng = np.random.default_rng(SEED + 1)
    copy(HERE / "qwen2.gguf", HERE / "mixed.gguf", 2, 64, {})
    for case, (file_type, names, large) in REPAIRS.items():
        before = load_file(HERE / ("qwen2.safetensors" if case == "mixed" else f"{case}.safetensors"))
        repaired, changed = {}, {}
        for name, (old, heads) in names.items():
            value = before[name] + 0.1 * rng.standard_normal(before[name].shape).astype(np.float32)
            # Values at the edges of F16: its smallest, halves of it, its largest.
            value.reshape(-1)[:4] = [6e-8, -2.9e-8, 65504, -65519]
            if name in large:
                value.reshape(-1)[4] = 65520
            repaired[name] = value
            stored = permuted(value, heads) if heads else value
            changed[old] = stored.astype(np.float32 if value.ndim == 1 or name in large else np.float16)
        save_file(repaired, HERE / f"{case}.repaired.safetensors")
        path = HERE / f"{case}.repaired.gguf"
        copy(HERE / f"{case}.gguf", path, file_type, 64 if case == "mixed" else None, changed)
        types = {tensor.name: tensor.tensor_type for tensor in GGUFReader(path).tensors}
        assert all(types[old] == (Q.F32 if name in large or "bias" in name or "norm" in name else Q.F16) for name, (old, _) in names.items())
        print(case, Model(path).kind())


if __name__ == "__main__":
    main()
