"""The PyTorch peer of `irepair-bench`: the same parts of a repair in eager transformers, timed the same way.

run: python bench/peer.py --what irepair --style published [--shape gpt2 --batch 4 --tokens 128 ...]
     (`cargo xtask bench` runs it in the Python that `cargo xtask interop` makes)

--style published: every forward first, the whole graph kept, gradients of every parameter, eager attention: what the
                   published description of IRepair asks for when it is written down plainly. For the other methods:
                   eager attention, losses by log_softmax over all logits.
--style tuned:     what someone who wants it fast writes without leaving PyTorch: fused attention (GPT-2; transformers has
                   none for GPT-Neo), gradients only where they are needed, cross_entropy for means.

--style trl:       for dpo, TRL's DPOTrainer on the same pairs (its own forward, loss, accumulation of metrics and step).

With --paced it says `ready`, does one repetition for every line on stdin and answers with its seconds. With --serve it
says `ready`, takes a JSON list of arguments from every line on stdin and answers with one JSON object (`bench/gpu.py`).
Prints one JSON object at its end: seconds of each counted repetition, tokens of one, the slices updated, peak_rss_bytes (Python, torch
and transformers included: `base_rss_bytes` is what they take before a model is made). Weights are random, texts are
random tokens of one length, the optimizer is RMSprop, gradients are clipped at 10: as in irepair-bench.
"""

import argparse
import gc
import json
import os
import resource
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn.functional as F

SHAPES = {
    "gpt2": (12, 768, 12, None), "gpt2-large": (36, 1280, 20, None), "gpt2-xl": (48, 1600, 25, None),
    "gpt-neo-125m": (12, 768, 12, 256), "gpt-neo-1.3b": (24, 2048, 16, 256),
    "llama-1b": (16, 2048, 32, None), "smollm2-135m": (30, 576, 9, None),
}
# Key-value heads, inner width, vocabulary and rotation base of those with rotary positions.
LLAMAS = {"llama-1b": (8, 8192, 128256, 500000.0), "smollm2-135m": (3, 1536, 49152, 100000.0)}
PROMPT, NEW, LAST = 16, 20, 2


def arguments(words=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--what")
    parser.add_argument("--style", default="tuned", choices=["published", "tuned", "trl"])
    parser.add_argument("--shape", default="gpt2", choices=SHAPES)
    for name in ["n-layer", "n-embd", "n-head", "vocab-size"]:
        parser.add_argument("--" + name, type=int)
    parser.add_argument("--top-k", default="1b")
    for name, default in [("batch", 4), ("tokens", 128), ("repeat", 5), ("warm-up", 1)]:
        parser.add_argument("--" + name, type=int, default=default)
    for name in ["paced", "serve", "kernels"]:
        parser.add_argument("--" + name, action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--model")
    return parser.parse_args(words)


def config(args):
    from transformers import GPT2Config, GPTNeoConfig, LlamaConfig

    n_layer, n_embd, n_head, window = SHAPES[args.shape]
    n_layer, n_embd = args.n_layer or n_layer, args.n_embd or n_embd
    n_head, vocab = args.n_head or n_head, args.vocab_size or 50257
    if args.shape in LLAMAS:
        n_kv, inner, own_vocab, theta = LLAMAS[args.shape]
        n_kv = max(1, n_head * n_kv // SHAPES[args.shape][2])
        return LlamaConfig(num_hidden_layers=n_layer, hidden_size=n_embd, num_attention_heads=n_head,
                           num_key_value_heads=n_kv, intermediate_size=inner * n_embd // SHAPES[args.shape][1],
                           vocab_size=args.vocab_size or own_vocab, tie_word_embeddings=True,
                           rope_parameters={"rope_type": "default", "rope_theta": theta})
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if window is None:
        return GPT2Config(n_layer=n_layer, n_embd=n_embd, n_head=n_head, vocab_size=vocab, **none)
    return GPTNeoConfig(num_layers=n_layer, hidden_size=n_embd, num_heads=n_head, vocab_size=vocab, window_size=window,
                        attention_types=[[["global", "local"], n_layer // 2]], resid_dropout=0.0, embed_dropout=0.0,
                        attention_dropout=0.0)


def model_of(args):
    from transformers import AutoModelForCausalLM

    settings = config(args)
    eager = args.style == "published" or settings.model_type == "gpt_neo"
    torch.manual_seed(0)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    # Drawn on the device, because a CPU takes half a minute for 1.5 billion weights.
    with torch.device(args.device):
        model = AutoModelForCausalLM.from_config(settings, attn_implementation="eager" if eager else "sdpa")
    return model.to(args.device, dtype)


def mean_nll(logits, ids, tuned):
    if tuned:
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
    log_probs = logits[:, :-1].float().log_softmax(-1)
    return -log_probs.gather(-1, ids[:, 1:, None]).mean()


def sequence_log_probs(logits, ids):
    return logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1).sum(-1)


def mean_kl(reference, logits):
    reference, log_probs = reference.float().log_softmax(-1), logits.float().log_softmax(-1)
    return (reference.exp() * (reference - log_probs)).sum(-1).mean()


class Steps:
    """Training steps of one method."""

    def __init__(self, args):
        self.args, self.tuned = args, args.style == "tuned"
        self.model = model_of(args)
        if self.what("irepair", "dapt-kl", "dpo"):
            self.reference = model_of(args).eval().requires_grad_(False)
            self.reference.load_state_dict(self.model.state_dict())
        blocks = self.model.model.layers if args.shape in LLAMAS else self.model.transformer.h
        self.blocks = [list(block.parameters()) for block in blocks]
        n = len(self.blocks)
        k = args.top_k
        self.slices = []
        self.k = int(k[:-1]) if k.endswith("b") else max(1, int(float(k.rstrip("%")) / 100 * n + 1e-9))
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.RMSprop(parameters, lr=1e-6, alpha=0.99, eps=1e-8)
        generator = torch.Generator().manual_seed(0)
        self.draw = lambda: torch.randint(self.model.config.vocab_size, (args.batch, args.tokens),
                                          generator=generator).to(args.device)

    def what(self, *names):
        return self.args.what in names

    def logits(self, ids, model=None):
        return (model or self.model)(input_ids=ids, use_cache=False).logits

    def choose(self, gradients):
        sizes = [sum(g.float().square().sum() for g in block) for block in gradients]
        self.slices.append(sorted(torch.stack(sizes).topk(self.k).indices.tolist()))
        return self.slices[-1]

    def block_gradients(self, loss, keep):
        flat = torch.autograd.grad(loss, [p for block in self.blocks for p in block], retain_graph=keep)
        flat = iter(flat)
        return [[next(flat) for _ in block] for block in self.blocks]

    def repair_loss(self, chosen, utility):
        loss = 0.5 * mean_nll(self.logits(chosen), chosen, self.tuned)
        if self.what("irepair", "dapt-kl"):
            with torch.no_grad():
                reference = self.logits(utility, self.reference)
            loss = loss + mean_kl(reference, self.logits(utility))
        return loss

    def update(self, loss, slice=None):
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if slice is not None:
            kept = {id(p) for b in slice for p in self.blocks[b]}
            for p in self.model.parameters():
                if id(p) not in kept:
                    p.grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        return float(loss.detach())

    def step(self):
        chosen, rejected, utility = self.draw(), self.draw(), self.draw()
        if self.what("dapt"):
            return self.update(-sequence_log_probs(self.logits(chosen), chosen).mean())
        if self.what("dapt-kl"):
            return self.update(self.repair_loss(chosen, utility))
        if self.what("dpo"):
            both = torch.cat([chosen, rejected])
            with torch.no_grad():
                reference = sequence_log_probs(self.logits(both, self.reference), both)
            gain = sequence_log_probs(self.logits(both), both) - reference
            n = len(chosen)
            return self.update(-F.logsigmoid(0.1 * (gain[:n] - gain[n:])).mean())
        if not self.tuned:
            # All forward passes first; then the gradients of the rejected text, the choice, and the full backward pass.
            error, loss = mean_nll(self.logits(rejected), rejected, False), self.repair_loss(chosen, utility)
            return self.update(loss, self.choose(self.block_gradients(error, True)))
        self.train_only(range(len(self.blocks)))
        error = mean_nll(self.logits(rejected), rejected, True)
        slice = self.choose(self.block_gradients(error, False))
        self.train_only(slice)
        return self.update(self.repair_loss(chosen, utility))

    def train_only(self, slice):
        self.model.requires_grad_(False)
        for b in slice:
            for p in self.blocks[b]:
                p.requires_grad_(True)

    def n_tokens(self):
        texts = {"irepair": 3, "irepair-no-kl": 2, "dapt": 1, "dapt-kl": 2, "dpo": 2}
        return texts[self.args.what] * self.args.batch * self.args.tokens


def trained_by_trl(args, between):
    """Runs TRL's trainer until `between`, called before every step with the seconds of the last, says that it is enough."""
    from datasets import Dataset
    from pyarrow import Table
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Pace(TrainerCallback):
        started = None

        def on_step_begin(self, arguments, state, control, **_):
            between(None if self.started is None else self.seconds)
            self.started = time.perf_counter()

        def on_step_end(self, arguments, state, control, **_):
            self.seconds = time.perf_counter() - self.started

    class Prepared(DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

    def row(i):
        ids = torch.randint(vocab, (2 * args.tokens,), generator=torch.Generator().manual_seed(i)).tolist()
        half = args.tokens // 2
        return {"prompt_ids": ids[:half], "chosen_ids": ids[half:args.tokens], "rejected_ids": ids[args.tokens:][:args.tokens - half]}

    model = model_of(args)
    vocab = model.config.vocab_size
    # With a given fingerprint, nothing is hashed.
    pairs = Dataset(Table.from_pylist([row(i) for i in range(16 * args.batch)]), fingerprint="pairs")
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w0")
    home = tempfile.TemporaryDirectory()
    settings = DPOConfig(output_dir=home.name, per_device_train_batch_size=args.batch, learning_rate=1e-6, max_length=None,
                         max_grad_norm=10.0, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no", use_cpu=args.device == "cpu",
                         gradient_checkpointing=False, bf16=False, max_steps=1_000_000, beta=0.1)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-6, alpha=0.99, eps=1e-8)
    Prepared(model=model, ref_model=model_of(args), args=settings, processing_class=tokenizer, callbacks=[Pace()],
             train_dataset=pairs, optimizers=(optimizer, None)).train()


def part(args):
    """What is repeated, the tokens of one repetition, and the steps if it is steps."""
    if args.what == "gemm":
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
        n = 2048 if args.device == "cpu" else 8192
        a, b = (torch.rand(n, n, device=args.device, dtype=dtype) for _ in range(2))
        return lambda: float((a @ b)[0, 0]), 0, None
    if args.what == "load":
        from transformers import AutoModelForCausalLM

        def load():
            model = AutoModelForCausalLM.from_pretrained(args.model)
            return sum(float(p.flatten()[0]) for p in model.parameters())

        return load, 0, None
    if args.what == "read":
        # The bytes alone: the floor of loading.
        return lambda: len(open(os.path.join(args.model, "model.safetensors"), "rb").read()), 0, None
    if args.what in ("generate", "perplexity", "last-words"):
        model = model_of(args).eval()
        ids = torch.randint(model.config.vocab_size, (args.batch, PROMPT if args.what == "generate" else args.tokens))
        ids = ids.to(args.device)
        if args.what == "generate":
            model.generation_config.eos_token_id = None
            settings = dict(max_new_tokens=NEW, do_sample=False, use_cache=True, pad_token_id=0)
            run = lambda: model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
            return torch.no_grad()(run), args.batch * NEW, None
        if args.what == "last-words":

            def run():
                logits, words = model(input_ids=ids, use_cache=False).logits[:, -LAST - 1:-1], ids[:, -LAST:]
                likely = logits.float().log_softmax(-1).gather(-1, words[..., None]).sum()
                return float(likely), int((logits.argmax(-1) == words).all(-1).sum())

            return torch.no_grad()(run), ids.numel(), None
        run = lambda: float(mean_nll(model(input_ids=ids, use_cache=False).logits, ids, True))
        return torch.no_grad()(run), ids.numel(), None
    steps = Steps(args)
    return steps.step, steps.n_tokens(), steps


def paced_by_trl(args, rss, base):
    """[`main`] for a trainer that cannot be left between two steps."""
    seconds, skipped = [], []

    def between(last):
        if last is not None and len(skipped) < args.warm_up:
            skipped.append(last)
        elif last is not None:
            seconds.append(last)
            if args.paced:
                print(last, flush=True)
        if len(skipped) < args.warm_up:
            return
        if args.paced and not seconds:
            print("ready", flush=True)
        if not (sys.stdin.readline() if args.paced else len(seconds) < args.repeat):
            tokens = 2 * args.batch * args.tokens
            result = {"seconds": seconds, "tokens": tokens, "peak_rss_bytes": rss(), "base_rss_bytes": base}
            if args.device != "cpu":
                result["peak_device_bytes"] = torch.cuda.max_memory_reserved()
            print(json.dumps(result), flush=True)
            sys.exit(0)

    trained_by_trl(args, between)


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def waited(args, go):
    """Seconds of one repetition, the device's work included."""
    started = time.perf_counter()
    go()
    if args.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def kernels(args, go):
    """Kernels of one repetition: name, how many, nanoseconds."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CPU if args.device == "cpu" else ProfilerActivity.CUDA
    with profile(activities=[activity]) as found:
        waited(args, go)
    time_of = (lambda e: e.self_cpu_time_total) if args.device == "cpu" else (lambda e: e.self_device_time_total)
    return [[e.key, e.count, int(1000 * time_of(e))] for e in found.key_averages() if time_of(e) > 0]


def measured(args, base):
    """Everything but --style trl."""
    go, tokens, steps = part(args)
    if args.device != "cpu":
        # Weights are made in f32, whatever they are used in.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(args.warm_up):
        waited(args, go)
    if args.paced:
        print("ready", flush=True)
    seconds = []
    while sys.stdin.readline() if args.paced else len(seconds) < args.repeat:
        seconds.append(waited(args, go))
        if args.paced:
            print(seconds[-1], flush=True)
    result = {"seconds": seconds, "tokens": tokens, "peak_rss_bytes": resident(), "base_rss_bytes": base}
    if steps is not None:
        result["slices"] = [",".join(map(str, slice)) for slice in steps.slices[args.warm_up:]]
    if args.device != "cpu":
        # As irepair-bench, without the driver's own part: memory reserved by the process, in use or not.
        result["peak_device_bytes"] = torch.cuda.max_memory_reserved()
        result["peak_used_bytes"] = torch.cuda.max_memory_allocated()
    if args.kernels:
        result["kernels"] = kernels(args, go)
    return result


def serve(base):
    """One job after the other in one process: importing transformers takes longer than most of them."""
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            result = measured(arguments(json.loads(line)), base)
        except Exception as error:  # what a job cannot do is its result
            result = {"error": f"{type(error).__name__}: {error}"[:400]}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(json.dumps(result), flush=True)


def main():
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    import transformers  # noqa: F401  (before the base is taken)

    base = resident()
    if args.serve:
        return serve(base)
    if args.style == "trl":
        return paced_by_trl(args, resident, base)
    print(json.dumps(measured(args, base)))


if __name__ == "__main__":
    main()
