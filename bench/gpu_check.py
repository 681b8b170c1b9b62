"""Does a GPU compute what a CPU computes? Scores, texts, sensitivities and repairs of the same models on both."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

FAMILIES = ["gpt2", "gpt-neo"]
TINY = {"irepair": "--method irepair --lr 1e-3", "dpo": "--method dpo --lr 1e-4"}
REAL = {"irepair": "--method irepair --lr 5e-4", "dpo": "--method dpo --lr 1e-4"}


def check(kit, root):
    """Runs everything at once, as far as there are cores, and compares."""
    deadline = time.monotonic() + min(kit.args.check_seconds, kit.left())
    tiny = kit.args.tiny or kit.work / "tiny"
    if not (tiny / "pairs.jsonl").exists():
        subprocess.run([sys.executable, root / "parity/interop/make.py", tiny], check=True)
    lines = lambda name, key: [{key: text} for text in json.loads((tiny / name).read_text())]
    for file, key in [("scored.jsonl", "text"), ("prompts.jsonl", "prompt")]:
        (kit.work / file).write_text("".join(json.dumps(line) + "\n" for line in lines("texts.json", key)))
    # The longest first.
    jobs = (real_jobs(kit) if kit.args.model else []) + tiny_jobs(kit, tiny)

    def go(job):
        name, words = job
        # Each in its own directory, and never after the deadline.
        started, left = time.monotonic(), deadline - time.monotonic()
        if left <= 1:
            return name, None, 0.0
        out = kit.run("irepair", *words, timeout=left)
        return name, out, time.monotonic() - started

    n_workers = 2 if kit.args.device == "cpu" else 8
    with ThreadPoolExecutor(n_workers) as pool:
        killed = pool.submit(kill_and_resume, kit, deadline) if kit.args.model else None
        done = {name: (out, seconds) for name, out, seconds in pool.map(go, jobs)}
        if killed is not None:
            killed.result()
    compare(kit, tiny, done)


def variants(kit):
    return [("cpu", "f32"), (kit.args.device, "f32"), (kit.args.device, "bf16"), ("cpu", "bf16")]


def tiny_jobs(kit, tiny):
    jobs = []
    for family in FAMILIES:
        for n, (device, dtype) in enumerate(variants(kit)):
            base = f"--model {tiny / (family + '-f32')} --device {device} --dtype {dtype} --threads 1"
            name = lambda what: (family, what, n)
            jobs += [(name("score"), f"score --input {kit.work / 'scored.jsonl'} {base}"),
                     (name("generate"), f"generate --prompts {kit.work / 'prompts.jsonl'} --max-new-tokens 12 --json {base}"),
                     (name("sensitivity"), f"sensitivity --data {tiny / 'pairs.jsonl'} --json {base}")]
            for method, words in TINY.items():
                data = f"--pairs {tiny / 'pairs.jsonl'} --general {tiny / 'corpus.txt'} --n-validation 4"
                out = kit.work / f"{family}-{method}-{n}"
                jobs.append((name(method), f"repair {words} {data} --out {out} --patch {out}.patch --steps {4 if kit.args.toy else 20} --warmup-steps 1"
                                           f" --max-prompt 24 --max-continuation 24 {base}"))
    return [(name, words.split()) for name, words in jobs]


def n_steps(kit):
    return 12 if kit.args.toy else 100


def real_words(kit, method, out, device, dtype):
    args, threads = kit.args, 1 if kit.args.toy else 4 if device == "cpu" else 2
    data = f"--model {args.model} --pairs {args.pairs} --general {args.general} --n-validation 32 --eval-every 200"
    return (f"repair {REAL[method]} {data} --out {out} --patch {out}.patch --steps {n_steps(kit)} --warmup-steps 10"
            f" --checkpoint-every {max(2, n_steps(kit) // 10)} --device {device} --dtype {dtype} --threads {threads}").split()


def real_jobs(kit):
    jobs = []
    for method in REAL:
        for n, (device, dtype) in enumerate(variants(kit)):
            out = kit.work / f"real-{method}-{n}"
            jobs.append((("real", method, n), real_words(kit, method, out, device, dtype)))
    again = kit.work / "real-irepair-again"
    jobs.append((("real", "irepair", "again"), real_words(kit, "irepair", again, *variants(kit)[1])))
    for n, (device, dtype) in enumerate(variants(kit)):
        words = f"eval --model {kit.args.model} --pairs {kit.args.pairs} --wikitext {kit.args.general} --json"
        jobs.append((("real", "eval", n), f"{words} --device {device} --dtype {dtype} --threads 3".split()))
    return jobs


def kill_and_resume(kit, deadline):
    """A run on the device that is killed between two checkpoints and started again."""
    out, device = kit.work / "real-irepair-killed", kit.args.device
    words = real_words(kit, "irepair", out, device, "f32")
    with open(kit.work / "killed.txt", "w") as said:
        child = subprocess.Popen([str(kit.args.programs.resolve() / "irepair"), *map(str, words)], env=kit.env,
                                 stdout=said, stderr=said)
        log, n = out / "metrics.jsonl", 0
        while child.poll() is None and n < n_steps(kit) // 2 and time.monotonic() < deadline:
            time.sleep(0.01)
            n = log.read_bytes().count(b"\n") if (out / ".irepair-state.safetensors").exists() else 0
        killed = child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
    kit.note("killed", was_running=killed, n_logged=n)
    if kit.run("irepair", *words, timeout=deadline - time.monotonic()) is None:
        return


def compare(kit, tiny, done):
    """Notes how far every variant is from the CPU's float32."""
    import torch
    from safetensors.torch import load_file

    def json_lines(text):
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def weights(path):
        return {name: value.double() for name, value in load_file(path / "model.safetensors").items() if value.is_floating_point()}

    def records(path):
        return json_lines((path / "metrics.jsonl").read_text())

    def repairs(family, method, label, base, want, got):
        """[`two_repairs`]; what cannot be compared does not keep the rest from it."""
        try:
            two_repairs(family, method, label, base, want, got)
        except (OSError, KeyError, ValueError, IndexError, ZeroDivisionError) as error:
            kit.note("missing", case=f"{family} {method}", on=label, said=repr(error))

    def two_repairs(family, method, label, base, want, got):
        """Losses, slices, and the change itself."""
        if not ((want / "config.json").exists() and (got / "config.json").exists()):
            return kit.note("missing", case=f"{family} {method}", on=label)
        a, b = records(want), records(got)
        before, one, other = weights(base), weights(want), weights(got)
        change = sum(float((one[k] - before[k]).square().sum()) for k in one) ** 0.5
        apart = sum(float((one[k] - other[k]).square().sum()) for k in one) ** 0.5
        same = [x["slice"] == y["slice"] for x, y in zip(a, b)]
        losses = [abs(x["loss"] - y["loss"]) / max(abs(x["loss"]), 1e-9) for x, y in zip(a, b)]
        steps_each = sorted(y["seconds"] for y in b)
        kit.note("repair", case=f"{family} {method}", on=label, n_steps=len(b), first_loss=losses[0], largest_loss=max(losses),
                 losses=[[x["loss"], y["loss"]] for x, y in list(zip(a, b))[:: max(1, len(b) // 5)]],
                 same_slices=sum(same), first_other_slice=same.index(False) if False in same else None,
                 change=change, apart=apart / max(change, 1e-30), same_bits=all(torch.equal(one[k], other[k]) for k in one),
                 median_step=steps_each[len(steps_each) // 2], train_seconds=sum(steps_each))

    labels = {n: f"{device} {dtype}" for n, (device, dtype) in enumerate(variants(kit))}
    # The device and the CPU in both types, and half precision on a CPU.
    compared = [(1, 0), (2, 3), (3, 0)]
    for family in FAMILIES:
        scores = {n: json_lines(done[family, "score", n][0] or "") for n in labels}
        texts = {n: json_lines(done[family, "generate", n][0] or "") for n in labels}
        norms = {n: json_lines(done[family, "sensitivity", n][0] or "") for n in labels}
        for n, m in compared:
            label = f"{labels[n]} and {labels[m]}"
            if scores[m] and scores[n]:
                apart = max(abs(a["nll_sum"] - b["nll_sum"]) / max(a["n_tokens"], 1) for a, b in zip(scores[m], scores[n]))
                kit.note("score", case=family, on=label, largest_nll_a_token=apart)
            if texts[m] and texts[n]:
                same = sum(a["text"] == b["text"] for a, b in zip(texts[m], texts[n]))
                kit.note("generate", case=family, on=label, same=same, of=len(texts[m]))
            if norms[m] and norms[n]:
                a, b = norms[m][0]["values"], norms[n][0]["values"]
                kit.note("sensitivity", case=family, on=label, largest=max(abs(x - y) / x for x, y in zip(a, b)),
                         same_top=a.index(max(a)) == b.index(max(b)))
            for method in TINY:
                of = lambda n: kit.work / f"{family}-{method}-{n}"
                repairs(family, method, label, tiny / f"{family}-f32", of(m), of(n))
    if kit.args.model:
        for method in REAL:
            of = lambda n: kit.work / f"real-{method}-{n}"
            for n, m in compared:
                repairs("real", method, f"{labels[n]} and {labels[m]}", kit.args.model, of(m), of(n))
            cpu = records(of(0)) if (of(0) / "metrics.jsonl").exists() else []
            if cpu:
                seconds = sorted(r["seconds"] for r in cpu)
                kit.note("cpu steps", case=f"real {method}", median_step=seconds[len(seconds) // 2], train_seconds=sum(seconds))
        whole = kit.work / "real-irepair-1"
        for name in ["again", "killed"]:
            repairs("real", "irepair", f"{labels[1]}, {name} and uninterrupted", kit.args.model, whole, kit.work / f"real-irepair-{name}")
        for n, label in labels.items():
            found = done.get(("real", "eval", n), (None,))[0]
            if found:
                metrics = json.loads(found)["metrics"]
                kit.note("eval", on=label, found={key: metric.get("value") for key, metric in metrics.items()})
        patched(kit)


def patched(kit):
    """The patch made on the device, applied to the model it started from."""
    out, copy = kit.work / "real-irepair-1", kit.work / "patched"
    if not (kit.work / "real-irepair-1.patch").exists():
        return
    words = ["patch", "apply", "--base", kit.args.model, "--patch", kit.work / "real-irepair-1.patch", "--out", copy]
    said = kit.run("irepair", *words, timeout=min(30, kit.left()))
    same = said is not None and (copy / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    kit.note("patch", applied=said is not None, same_bytes=same)


def table(found):
    rows = ["| case | on | loss, first step | loss, largest | slices | weights apart / change | same bits | s a step |",
            "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |"]
    for f in found:
        if f["kind"] == "repair":
            rows.append(f"| {f['case']} | {f['on']} | {f['first_loss']:.1e} | {f['largest_loss']:.1e} | {f['same_slices']}/{f['n_steps']} |"
                        f" {f['apart']:.1e} | {f['same_bits']} | {f['median_step']:.4f} |")
    other = [f"- {json.dumps({k: v for k, v in f.items() if k != 'at'})}" for f in found
             if f["kind"] in ("eval", "score", "generate", "sensitivity", "patch", "killed", "cpu steps", "missing", "no device", "preloaded")]
    return ["## Compared with a CPU", "", *rows, "", *other, ""]
