"""Compares a CUDA device with a CPU and with transformers: results, time and memory.

run:  python bench/gpu.py --programs DIR --out DIR [--model DIR --pairs FILE --general FILE] [--deadline 360]
      Python with torch 2.11 (CUDA) and transformers; neither Rust nor a network. `--device cpu --toy` rehearses every line.
DIR:  `irepair` and `irepair-bench`, release builds; `kernels.so` made of bench/kernels.c, where kernels are to be counted
out:  results.jsonl, a line as soon as something is known; kernels.jsonl, kernels of single steps by class and name;
      summary.md, tables of both; log.txt, what failing programs said

--deadline: seconds after which nothing new is started; what is known by then is written.
"""

import argparse
import glob
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import gpu_check
import gpu_speed

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser()
    for name in ["programs", "out"]:
        parser.add_argument("--" + name, type=Path, required=True)
    for name in ["model", "pairs", "general", "tiny"]:
        parser.add_argument("--" + name, type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default="check,speed")
    parser.add_argument("--deadline", type=float, default=360.0)
    parser.add_argument("--check-seconds", type=float, default=130.0)
    parser.add_argument("--only", default="", help="lines of the speed table whose name has this in it; several with semicolons")
    parser.add_argument("--trl", type=Path, help="directory of TRL and its own wheels, for a line with its trainer")
    parser.add_argument("--toy", action="store_true", help="toy shapes: shows that every line runs")
    return parser.parse_args()


class Kit:
    """Where programs lie, how they are started, and the files that results go to."""

    def __init__(self, args):
        self.args, self.started, self.lock = args, time.monotonic(), threading.Lock()
        args.out.mkdir(parents=True, exist_ok=True)
        self.work = args.out / "work"
        if os.environ.get("TMPDIR") or args.device != "cpu":
            self.work = Path(os.environ.get("TMPDIR", "/tmp")) / f"irepair-gpu-{os.getpid()}"
        self.work.mkdir(parents=True, exist_ok=True)
        self.results, self.kernels, self.log = (
            open(args.out / name, "w") for name in ["results.jsonl", "kernels.jsonl", "log.txt"])
        self.found = []
        self.env = dict(os.environ, HF_HUB_OFFLINE="1", NO_COLOR="1")
        torch = Path(importlib.util.find_spec("torch").origin).parent
        # torch's own libraries find these by their directory; other programs need the path.
        nvidia = glob.glob(str(torch.parent / "nvidia" / "*" / "lib"))
        paths = [str(torch / "lib"), *sorted(nvidia), os.environ.get("LD_LIBRARY_PATH", "")]
        self.env["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)

    def left(self):
        return self.args.deadline - (time.monotonic() - self.started)

    def note(self, kind, to=None, **fields):
        """One line of results."""
        line = {"kind": kind, "at": round(time.monotonic() - self.started, 1), **fields}
        with self.lock:
            if to is None:
                self.found.append(line)
                print(json.dumps(line)[:300], flush=True)
            file = to or self.results
            file.write(json.dumps(line) + "\n")
            file.flush()
        return line

    def say(self, text):
        with self.lock:
            self.log.write(text.rstrip() + "\n")
            self.log.flush()

    def run(self, program, *words, timeout=60.0, env=None, cwd=None):
        """Runs one of our programs; its stdout, or none when it fails, which is noted."""
        command = [str(self.args.programs.resolve() / program), *map(str, words)]
        started = time.monotonic()
        try:
            done = subprocess.run(command, env={**self.env, **(env or {})}, cwd=cwd, capture_output=True, text=True,
                                  timeout=max(1.0, timeout))
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            code, out, err = "timeout", "", (late.stderr or b"").decode(errors="replace")
        except OSError as error:
            code, out, err = "not started", "", str(error)
        took = time.monotonic() - started
        if code != 0:
            self.say(f"$ {' '.join(command)}\nexit {code} after {took:.1f} s\n{out[-500:]}\n{err[-3000:]}\n")
            self.note("failed", program=program, words=" ".join(map(str, words)), code=code, said=err[-400:])
            return None
        return out


def machine(kit):
    """Names the machine, and sees that our programs find its device."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        gpu = str(error)
    versions = {}
    for name in ["torch", "transformers", "trl", "liger-kernel"]:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    kit.note("machine", gpu=gpu, cores=os.cpu_count(), python=platform.python_version(), libc=platform.libc_ver(), **versions)
    gemm = ["--what", "gemm", "--repeat", 2, "--device", kit.args.device]
    if kit.run("irepair-bench", *gemm) is None and kit.args.device != "cpu":
        # Print why the CUDA library does not load, and try another way.
        look = "import ctypes; ctypes.CDLL('libtorch_cuda.so', ctypes.RTLD_GLOBAL)"
        done = subprocess.run([sys.executable, "-c", look], env=kit.env, capture_output=True, text=True)
        kit.note("no device", said=done.stderr[-600:])
        kit.env["LD_PRELOAD"] = "libtorch_cuda.so"
        kit.note("preloaded", works=kit.run("irepair-bench", *gemm) is not None)


def summary(kit):
    """Tables for people."""
    text = [f"# {next((f['gpu'] for f in kit.found if f['kind'] == 'machine'), '')}", ""]
    if kit.args.toy:
        text += ["Toy shapes: the numbers mean nothing.", ""]
    text += gpu_check.table(kit.found) + gpu_speed.tables(kit.found)
    failed = [f for f in kit.found if f["kind"] == "failed"]
    text += [f"Failed: {len(failed)}"] + [f"- {f['program']} {f['words']}: {f['said'][-200:]!r}" for f in failed]
    (kit.args.out / "summary.md").write_text("\n".join(text) + "\n")
    return "\n".join(text)


def guarded(kit, part, *given):
    """What goes wrong in one part is noted, and the next one runs."""
    try:
        part(kit, *given)
    except Exception:
        kit.say(traceback.format_exc())
        kit.note("failed", program=part.__name__, words="", code="exception", said=traceback.format_exc()[-400:])


def main():
    args = arguments()
    kit = Kit(args)
    peer = gpu_speed.Peer(kit) if "speed" in args.parts else None
    try:
        guarded(kit, machine)
        if "check" in args.parts:
            guarded(kit, gpu_check.check, HERE.parent)
        if peer is not None:
            guarded(kit, gpu_speed.measure, peer)
    finally:
        if peer is not None:
            peer.stop()
        print(summary(kit))


if __name__ == "__main__":
    main()
