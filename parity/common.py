"""Shared by the golden-file generators: checkpoints, batches, losses, block norms and writing.

Every formula names the section of docs/METHOD.md it implements. Plain eager PyTorch, the whole graph, no tricks:
slow and obvious is the point of a reference.
"""

import hashlib
import json
import math
import os
import platform
import re
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoConfig, LlamaConfig, Qwen2Config

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

VOCAB = 101
EOS = 100  # also the pad id; texts contain it as a real token too, so that a mask made from `id != EOS` fails


# ---------------------------------------------------------------- models


def new_model(config, seed, dtype=torch.float32, std=0.2):
    """A random model without neutral values: biases and norms are random as well.

    The default initialisation (weights 0.02, biases 0, norms 1) would hide a transposed weight, a forgotten bias or
    a swapped norm behind nearly flat logits.
    """
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=gen)
            if is_norm_weight(name):
                p.copy_(1.0 + 0.1 * noise)
            elif name.endswith(".bias"):
                p.copy_(0.1 * noise)
            else:
                p.copy_(std * noise)
    return model.to(dtype).eval()


def is_norm_weight(name):
    return re.search(r"(\bln_(1|2|f)|norm)\.weight$", name) is not None


def gpt2_config(n_layer=3, n_embd=32, n_head=4, vocab=VOCAB, **more):
    return GPT2Config(
        n_layer=n_layer, n_embd=n_embd, n_head=n_head, n_positions=64, vocab_size=vocab,
        bos_token_id=vocab - 1, eos_token_id=vocab - 1, pad_token_id=None,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **more)


def gpt_neo_config(attention_types, window_size, hidden_size=32, num_heads=4, vocab=VOCAB, **more):
    num_layers = sum(len(kinds) * times for kinds, times in attention_types)
    return GPTNeoConfig(
        num_layers=num_layers, hidden_size=hidden_size, num_heads=num_heads, max_position_embeddings=64,
        attention_types=attention_types, window_size=window_size, vocab_size=vocab,
        bos_token_id=vocab - 1, eos_token_id=vocab - 1, pad_token_id=None,
        resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0, **more)


def qwen2_config(**more):
    return llama_config(of=Qwen2Config, **more)


def llama_config(num_hidden_layers=3, hidden_size=32, heads=(4, 2), rope=None, vocab=VOCAB, of=LlamaConfig, **more):
    """Grouped queries and an MLP whose width is no multiple of the model's, unless told otherwise."""
    sizes = {"intermediate_size": 40, "max_position_embeddings": 64, **more}
    return of(
        num_hidden_layers=num_hidden_layers, hidden_size=hidden_size, num_attention_heads=heads[0],
        num_key_value_heads=heads[1], vocab_size=vocab, bos_token_id=vocab - 1, eos_token_id=vocab - 1,
        pad_token_id=None, rope_parameters={"rope_theta": 10000.0, "rope_type": "default", **(rope or {})}, **sizes)


def load(path):
    """Reads a checkpoint as everyone would and computes in f32, whatever dtype it is stored in."""
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    return model.float().eval()


def model_hash(path):
    """SHA-256 over the weight files, in name order."""
    digest = hashlib.sha256()
    for file in sorted(Path(path).glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def block_of(name):
    """The block a parameter belongs to, `None` for embeddings, final norm and output head (METHOD §1)."""
    found = None if "vision" in name else re.search(r"(?:^|\.)(?:h|layers)\.(\d+)\.", name)
    return int(found.group(1)) if found else None


def blocks_of(model):
    """The blocks as modules."""
    body = getattr(model, "gpt_neox", None) or getattr(model, "model", None)
    return model.transformer.h if body is None else getattr(body, "language_model", body).layers


def parameters_by_block(model):
    """`[L]` lists of `(name, parameter)`, and the list of those in no block. Tied weights appear once."""
    blocks = [[] for _ in range(model.config.get_text_config().num_hidden_layers)]
    rest = []
    for name, p in model.named_parameters():
        (rest if block_of(name) is None else blocks[block_of(name)]).append((name, p))
    return blocks, rest


# ---------------------------------------------------------------- batches (METHOD §2)


def prompted(prompts, continuations, pad=EOS):
    """Prompts padded on the left, continuations on the right: `(ids [B,T] int64, real [B,T] bool)`."""
    left, right = max(map(len, prompts)), max(map(len, continuations))
    ids, real = [], []
    for p, c in zip(prompts, continuations, strict=True):
        ids.append([pad] * (left - len(p)) + p + c + [pad] * (right - len(c)))
        real.append([False] * (left - len(p)) + [True] * len(p + c) + [False] * (right - len(c)))
    return torch.tensor(ids), torch.tensor(real)


def right_padded(rows, pad=EOS):
    return prompted([[] for _ in rows], rows, pad)


def left_padded(rows, pad=EOS):
    return prompted(rows, [[] for _ in rows], pad)


def random_rows(gen, lengths, vocab=VOCAB):
    return [torch.randint(0, vocab, (n,), generator=gen).tolist() for n in lengths]


def positions(real):
    """cumsum(mask) - 1, clamped at 0."""
    return (real.long().cumsum(-1) - 1).clamp(min=0)


def counted(real):
    """`[B,T-1]`: target t counts when tokens t and t-1 are both real."""
    return real[:, 1:] & real[:, :-1]


def uses_long_rope(model):
    return (getattr(model.config, "rope_parameters", None) or {}).get("rope_type") == "longrope"


def forward(model, batch):
    """Logits `[B,T,V]` of a padded batch.

    Where rotary positions depend on the length of the text, transformers takes the longest of the batch: there every
    text runs on its own.
    """
    ids, real = batch
    if uses_long_rope(model) and len(ids) > 1:
        rows = [model(input_ids=i[r][None], use_cache=False).logits[0] for i, r in zip(ids, real, strict=True)]
        logits = torch.zeros(*ids.shape, rows[0].shape[-1], dtype=rows[0].dtype)
        return logits.masked_scatter(real[..., None].expand_as(logits), torch.cat(rows))
    return model(input_ids=ids, attention_mask=real.long(), position_ids=positions(real), use_cache=False).logits


# ---------------------------------------------------------------- losses (METHOD §2, §7)


def token_logp(logits, batch):
    """Log-probability of every target, `[B,T-1]`, 0 where it does not count."""
    ids, real = batch
    logp = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return logp.where(counted(real), torch.zeros(()))


def nll_tok(logits, batch):
    """Mean over all counted tokens of the batch."""
    return -token_logp(logits, batch).sum() / counted(batch[1]).sum()


def logp_seq(logits, batch):
    """Sum over counted targets, `[B]`."""
    return token_logp(logits, batch).sum(-1)


def divergence(kind, ref_logits, logits, real):
    """KL(reference || model) (`forward`), KL(model || reference) (`reverse`) or Jensen-Shannon with equal halves
    (`js`), mean over real positions, the last one included."""
    logp0, logp = ref_logits.log_softmax(-1), logits.log_softmax(-1)
    kl = lambda a, b: (a.exp() * (a - b)).sum(-1)
    if kind == "forward":
        per_position = kl(logp0, logp)
    elif kind == "reverse":
        per_position = kl(logp, logp0)
    else:
        mid = torch.logsumexp(torch.stack([logp0, logp]), 0) - math.log(2.0)
        per_position = 0.5 * kl(logp0, mid) + 0.5 * kl(logp, mid)
    return per_position[real].sum() / real.sum()


def dpo(logp_chosen, logp_rejected, ref_chosen, ref_rejected, beta):
    """`(loss, rewards of chosen [B], rewards of rejected [B], share of pairs with r > 0)`."""
    r = (logp_chosen - logp_rejected) - (ref_chosen - ref_rejected)
    accuracy = (r > 0).float().mean()
    return -F.logsigmoid(beta * r).mean(), beta * (logp_chosen - ref_chosen), beta * (logp_rejected - ref_rejected), accuracy


def npo(logp_rejected, ref_rejected, beta):
    """The unlearning term alone, without gamma KL."""
    return 2.0 / beta * F.softplus(beta * (logp_rejected - ref_rejected)).mean()


# ---------------------------------------------------------------- gradients


def grad_norms(loss, model):
    """L2 norms of d loss / d parameters by block, of everything else, and of all; summed in f64."""
    blocks, rest = parameters_by_block(model)
    named = [p for group in [*blocks, rest] for _, p in group]
    grads = torch.autograd.grad(loss, named, retain_graph=True, allow_unused=True)
    square = {id(p): 0.0 if g is None else g.double().square().sum().item() for p, g in zip(named, grads)}
    by_block = [sum(square[id(p)] for _, p in group) for group in blocks]
    other = sum(square[id(p)] for _, p in rest)
    return {
        "by_block": [math.sqrt(s) for s in by_block],
        "non_block": math.sqrt(other),
        "global": math.sqrt(sum(by_block) + other),
    }


# ---------------------------------------------------------------- writing


def to_lists(value):
    if isinstance(value, torch.Tensor):
        return value.detach().tolist()
    if isinstance(value, dict):
        return {k: to_lists(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_lists(v) for v in value]
    return value


def batch_json(batch):
    return {"ids": batch[0].tolist(), "real": batch[1].tolist()}


def write_json(path, value):
    text = json.dumps(to_lists(value), indent=1, allow_nan=False)
    # One line per innermost list: readable, and a diff shows each changed value.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
    Path(path).write_text(text + "\n")


def write_tensors(path, tensors):
    tensors = {k: v.detach().contiguous() for k, v in tensors.items()}
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def write_meta(path, seed, models, **more):
    write_json(path, {
        "generator": more.pop("generator"),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "seed": seed,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "attention": "eager",
        "model_sha256": models,
        **more,
    })


def readable(path):
    """Gives every file below `path` ordinary permissions; safetensors writes private ones."""
    for file in Path(path).rglob("*"):
        if file.is_file():
            file.chmod(0o644)


def fresh_dir(path):
    shutil.rmtree(path, ignore_errors=True)
    Path(path).mkdir(parents=True)
    return Path(path)
