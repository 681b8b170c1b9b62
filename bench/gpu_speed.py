"""Time and memory of `irepair-bench` and of `bench/peer.py`, one after the other on one device."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOY = "--n-layer 2 --n-embd 16 --n-head 2 --vocab-size 300 --tokens 16"

# Most important first: name, arguments of both, styles of the peer, whether kernels are counted.
BOTH, ONE = ["published", "tuned"], ["tuned"]
LINES = [
    ("IRepair, GPT-2 XL, bf16, batch 32", "--what irepair --shape gpt2-xl --dtype bf16 --batch 32", BOTH, True),
    ("IRepair, GPT-2 XL, bf16, batch 4", "--what irepair --shape gpt2-xl --dtype bf16 --batch 4", BOTH, True),
    ("DPO, GPT-2 XL, bf16, batch 4", "--what dpo --shape gpt2-xl --dtype bf16 --batch 4", BOTH, True),
    ("Generation, GPT-2 XL, bf16, batch 32", "--what generate --shape gpt2-xl --dtype bf16 --batch 32", ONE, True),
    ("IRepair, GPT-Neo 1.3B, bf16, batch 32", "--what irepair --shape gpt-neo-1.3b --dtype bf16 --batch 32", BOTH, False),
    ("DPO, GPT-2 XL, bf16, batch 32", "--what dpo --shape gpt2-xl --dtype bf16 --batch 32", BOTH, False),
    ("IRepair, GPT-2 124M, f32, batch 4", "--what irepair --shape gpt2 --dtype f32 --batch 4", BOTH, True),
    ("IRepair, GPT-2 124M, bf16, batch 32", "--what irepair --shape gpt2 --dtype bf16 --batch 32", BOTH, False),
    ("DAPT+KL, GPT-2 XL, bf16, batch 4", "--what dapt-kl --shape gpt2-xl --dtype bf16 --batch 4", BOTH, False),
    ("IRepair, Llama 1B, bf16, batch 32", "--what irepair --shape llama-1b --dtype bf16 --batch 32", BOTH, True),
    ("DPO, Llama 1B, bf16, batch 4", "--what dpo --shape llama-1b --dtype bf16 --batch 4", BOTH, False),
    ("Generation, Llama 1B, bf16, batch 32", "--what generate --shape llama-1b --dtype bf16 --batch 32", ONE, False),
    ("IRepair, GPT-2 XL, f32, batch 4", "--what irepair --shape gpt2-xl --dtype f32 --batch 4", BOTH, False),
    ("Generation, GPT-2 124M, f32, batch 32", "--what generate --shape gpt2 --dtype f32 --batch 32", ONE, False),
    ("DPO, GPT-2 124M, bf16, batch 4", "--what dpo --shape gpt2 --dtype bf16 --batch 4", BOTH, False),
    ("DPO, GPT-Neo 1.3B, bf16, batch 4", "--what dpo --shape gpt-neo-1.3b --dtype bf16 --batch 4", BOTH, False),
    ("Perplexity, GPT-2 XL, bf16, batch 32", "--what perplexity --shape gpt2-xl --dtype bf16 --batch 32", ONE, False),
    ("IRepair, GPT-2 XL, f32, batch 32", "--what irepair --shape gpt2-xl --dtype f32 --batch 32", BOTH, False),
    ("DAPT+KL, GPT-2 XL, bf16, batch 32", "--what dapt-kl --shape gpt2-xl --dtype bf16 --batch 32", BOTH, False),
    ("DPO, GPT-2 124M, f32, batch 4", "--what dpo --shape gpt2 --dtype f32 --batch 4", BOTH, False),
]

CLASSES = [
    ("attention", r"flash|fmha|attention|mem_?eff"),
    ("matrix products", r"gemm|nvjet|cutlass|cublas|splitK|dot_kernel|gemv"),
    ("softmax", r"softmax"),
    ("norms", r"layer_?norm|LayerNorm"),
    ("gather, scatter, sort", r"index|gather|scatter|embedding|sort|topk|scan|nonzero"),
    ("sums", r"reduce|norm"),
    ("copies, joins, fills", r"copy|Cat|memcpy|memset|fill|Memcpy|Memset|to the|on the device"),
    ("random numbers", r"distribution|random|normal_"),
    ("elementwise", r"elementwise|foreach|multi_tensor|lpnorm"),
]


def class_of(name):
    return next((c for c, pattern in CLASSES if re.search(pattern, name)), "other")


class Peer:
    """`peer.py --serve`, started ahead and again when it dies."""

    def __init__(self, kit):
        self.kit, self.child = kit, None
        self.start()

    def start(self):
        log = open(self.kit.work / "peer.txt", "a")
        self.child = subprocess.Popen([sys.executable, HERE / "peer.py", "--serve"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=log, text=True)
        self.ready = False

    def stop(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()

    def job(self, words, timeout):
        """One job's result, or an error in words."""
        if self.child.poll() is not None:
            self.start()
        # A hanging job ends with its process.
        timer = threading.Timer(max(1.0, timeout), self.child.kill)
        timer.start()
        try:
            while not self.ready:
                line = self.child.stdout.readline()
                if not line:
                    raise OSError("ended at its start")
                self.ready = line.strip() == "ready"
            self.child.stdin.write(json.dumps(words) + "\n")
            self.child.stdin.flush()
            while True:
                line = self.child.stdout.readline()
                if not line:
                    raise OSError("ended or was too slow")
                if line.startswith("{"):
                    return json.loads(line)
        except OSError as error:
            self.stop()
            said = (self.kit.work / "peer.txt").read_text()[-600:]
            self.kit.say(f"peer: {words}\n{said}")
            return {"error": str(error)}
        finally:
            timer.cancel()


class Watch:
    """Memory that the device gives out, above what it gave before, looked at every few milliseconds."""

    def __init__(self, kit):
        self.used = None
        if kit.args.device == "cpu":
            return
        try:
            import pynvml
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            self.used = lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used
            self.used()
        except Exception as error:  # without it our peak is what libtorch's allocator says
            kit.say(f"no pynvml: {error}")
            self.used = None

    def __enter__(self):
        self.peak = None
        if self.used is None:
            return self
        self.before, self.over, self.peak = self.used(), threading.Event(), 0
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.over.wait(0.005):
            self.peak = max(self.peak, self.used() - self.before)

    def __exit__(self, *_):
        if self.used is not None:
            self.over.set()
            self.thread.join()


def kernels_of_last(path, seconds):
    """What `kernels.so` wrote of the last repetition: [name, how many, nanoseconds]."""
    records = [line.rstrip("\n").split(" ", 3) for line in open(path)]
    records = [(int(r[0]), int(r[1]), r[3]) for r in records if len(r) == 4]
    last = max((end for _, end, _ in records), default=0)
    found = {}
    for start, end, name in records:
        if start >= last - seconds * 1e9:
            count, total = found.get(name, (0, 0))
            found[name] = (count + 1, total + end - start)
    return [[name, count, total] for name, (count, total) in found.items()]


def note_kernels(kit, name, who, kernels, seconds):
    by_class = {}
    for kernel, count, total in kernels:
        n, ns = by_class.get(class_of(kernel), (0, 0))
        by_class[class_of(kernel)] = (n + count, ns + total)
    busy = sum(ns for _, ns in by_class.values()) / 1e9
    kit.note("kernels", name=name, who=who, seconds=seconds, busy=busy, n=sum(n for n, _ in by_class.values()),
             by_class={c: [n, ns / 1e9] for c, (n, ns) in sorted(by_class.items(), key=lambda item: -item[1][1])})
    top = sorted(kernels, key=lambda kernel: -kernel[2])[:60]
    kit.note("kernels", to=kit.kernels, name=name, who=who, top=[[k[:200], n, ns] for k, n, ns in top])


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


def measure(kit, peer):
    """Line after line until the time is up."""
    device, watch = ["--device", kit.args.device], Watch(kit)
    toy = TOY.split() if kit.args.toy else []
    repeat = ["--repeat", "2", "--warm-up", "1"] if kit.args.toy else ["--repeat", "5", "--warm-up", "3"]
    shapes = kit.run("irepair-bench", "--help", timeout=20) or ""
    products(kit, peer, device)
    for name, words, styles, counted in LINES:
        if kit.args.only and not any(part in name for part in kit.args.only.split(";")):
            continue
        if "llama" in words and "llama" not in shapes:
            continue
        if kit.left() < 12:
            kit.note("left out", name=name)
            continue
        words = words.split() + toy + device + repeat
        with watch:
            out = kit.run("irepair-bench", *words, timeout=min(60, kit.left()))
        ours = json.loads(out.splitlines()[-1]) if out else {"error": "failed"}
        if watch.peak:
            ours["peak_watched_bytes"] = watch.peak
        kit.note("speed", name=name, who="ours", words=words, **ours)
        if counted and out and (kit.args.programs / "kernels.so").exists():
            trace(kit, name, words)
        for style in styles:
            if kit.left() < 5:
                break
            asked = [*words, "--style", style] + (["--kernels"] if counted else [])
            got = peer.job(asked, min(60, kit.left()))
            kernels = got.pop("kernels", None)
            kit.note("speed", name=name, who=style, **got)
            if kernels:
                note_kernels(kit, name, style, kernels, median(got["seconds"]))
    if kit.args.trl and kit.left() > 30:
        by_trl(kit, device + toy + repeat)
    if kit.left() > 10:
        products(kit, peer, device)


def products(kit, peer, device):
    """The rate of large square products, by both."""
    n = 2048 if kit.args.device == "cpu" else 8192
    for dtype in ["f32", "bf16"]:
        words = ["--what", "gemm", "--dtype", dtype, "--repeat", "1" if kit.args.toy else "5", *device]
        out = kit.run("irepair-bench", *words, timeout=min(40, kit.left()))
        if out:
            ours = json.loads(out.splitlines()[-1])
            kit.note("products", who="ours", dtype=dtype, rate=ours["flops"] / median(ours["seconds"]))
        got = peer.job(words, min(60, kit.left()))
        if "seconds" in got:
            kit.note("products", who="torch", dtype=dtype, rate=2 * n**3 / median(got["seconds"]))


def trace(kit, name, words):
    """Kernels of our last step, in a run of its own: counting costs time."""
    path = kit.work / "kernels.txt"
    env = {"CUDA_INJECTION64_PATH": str((kit.args.programs / "kernels.so").resolve()), "KERNELS": str(path)}
    path.unlink(missing_ok=True)
    out = kit.run("irepair-bench", *words, "--repeat", "1", "--warm-up", "2", timeout=min(40, kit.left()), env=env)
    if out and path.exists():
        seconds = json.loads(out.splitlines()[-1])["seconds"][-1]
        note_kernels(kit, name, "ours", kernels_of_last(path, seconds), seconds)
    elif kit.args.device != "cpu":
        kit.note("no kernels", name=name)


def by_trl(kit, words):
    """TRL's trainer, which keeps its process."""
    name = "DPO, GPT-2 XL, bf16, batch 4"
    job = [sys.executable, HERE / "peer.py", "--style", "trl", "--what", "dpo", "--shape", "gpt2-xl", "--dtype", "bf16", *words]
    env = dict(kit.env, PYTHONPATH=str(kit.args.trl.resolve()))
    try:
        done = subprocess.run(job, env=env, capture_output=True, text=True, timeout=min(90, kit.left()))
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"seconds')]
        if lines:
            return kit.note("speed", name=name, who="trl", **json.loads(lines[-1]))
        kit.say(f"TRL: {done.stderr[-3000:]}")
        kit.note("speed", name=name, who="trl", error=done.stderr[-200:])
    except subprocess.TimeoutExpired:
        kit.note("speed", name=name, who="trl", error="too slow")


def tables(found):
    """Speed and kernels for people."""
    text = ["## Speed", ""]
    rates = [f for f in found if f["kind"] == "products"]
    text += [f"- square products, {f['dtype']}, {f['who']}: {f['rate'] / 1e12:.1f} TFLOP/s" for f in rates]
    best = lambda dtype: max((f["rate"] for f in rates if f["dtype"] == dtype), default=None)
    text += ["", "| line | ours, s | published, s | tuned, s | trl, s | / published | / tuned | share of products | peak GiB | published | tuned |",
             "| --- | " + "---: | " * 10]
    names = list(dict.fromkeys(f["name"] for f in found if f["kind"] == "speed"))
    for name in names:
        by = {f["who"]: f for f in found if f["kind"] == "speed" and f["name"] == name}
        took = {who: median(f["seconds"]) for who, f in by.items() if f.get("seconds")}
        shown = lambda who: f"{took[who]:.4f}" if who in took else ("failed" if who in by else "-")
        over = lambda who: f"{took['ours'] / took[who]:.2f}" if "ours" in took and who in took else "-"
        peak = lambda who, *keys: next((f"{by[who][k] / 2**30:.1f}" for k in keys if by.get(who, {}).get(k)), "-")
        share, rate = "-", best("bf16" if "bf16" in name else "f32")
        if "ours" in took and by["ours"].get("flops") and rate:
            share = f"{by['ours']['flops'] / took['ours'] / rate:.2f}"
        text.append(f"| {name} | {shown('ours')} | {shown('published')} | {shown('tuned')} | {shown('trl')} | {over('published')} |"
                    f" {over('tuned')} | {share} | {peak('ours', 'peak_watched_bytes', 'peak_device_bytes')} |"
                    f" {peak('published', 'peak_device_bytes')} | {peak('tuned', 'peak_device_bytes')} |")
    errors = [f for f in found if f["kind"] == "speed" and f.get("error")]
    text += [""] + [f"- {f['name']}, {f['who']}: {f['error'][:200]}" for f in errors]
    text += ["", "## Kernels of a step", ""]
    for f in found:
        if f["kind"] == "kernels":
            classes = "; ".join(f"{c} {n} in {s * 1e3:.1f} ms" for c, (n, s) in f["by_class"].items())
            text.append(f"- {f['name']}, {f['who']}: {f['n']} in {f['seconds'] * 1e3:.1f} ms, busy {f['busy'] * 1e3:.1f} ms: {classes}")
    return text + [""]
