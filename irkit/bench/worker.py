"""The process that holds one loaded model and times its calls on demand. A script: started by irkit/bench/process.py.

It needs the standard library, NumPy and the engine that it measures, not irkit: engines live in environments of their
own. The first argument is a JSON object: ``engine`` (a function of the file ``loaders``, or null for irkit), ``model``
(a path), ``threads``, ``inputs`` (an .npz of the arrays of a call, in order), ``cpus`` (to stay on, or null).
It answers in lines of JSON: once after loading, then once for each request ``{"seconds": s}``.

How time is taken. Loading starts after the engine's import and ends with the first call's outputs; the file is in the
system's cache. A turn of s seconds starts with calls nobody times, for a fifth of it; then come samples of one call
each or, so that reading the clock stays below half a percent, of as many calls as fill 20 us. The answer holds every
sample, in nanoseconds a call.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from time import perf_counter, perf_counter_ns, process_time
from typing import Any

WARM_SHARE, SAMPLE_NS, MOST_SAMPLES = 0.2, 20_000, 20_000


def main() -> None:
    """Load, say so, answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints must not be taken for an answer
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [
        p for p in sys.path if os.path.abspath(p or ".") != here
    ]  # of a script; its neighbours are no modules
    task = json.loads(sys.argv[1])
    die_with_parent()
    if task["cpus"]:
        os.sched_setaffinity(0, task["cpus"])
    run, x, about = load(task)
    answers.write(json.dumps(about) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(turn(run, x, json.loads(line)["seconds"])) + "\n")


def die_with_parent() -> None:
    """A worker that is stopped would wait for ever, were its parent killed."""
    import ctypes
    import signal

    with contextlib.suppress(AttributeError, OSError):  # Linux has it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def load(task: dict[str, Any]) -> tuple[Any, list[Any], dict[str, Any]]:
    """(function, its arguments, what is known of it) of the engine's model; times in ms, memory in bytes."""
    import numpy as np

    start = perf_counter()
    if task["engine"] is None:
        engine: Any = Irkit()
    else:
        spec = importlib.util.spec_from_file_location("loaders", task["loaders"])
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["loaders"] = module
        spec.loader.exec_module(module)
        engine = getattr(module, task["engine"])()
    import_ms = (perf_counter() - start) * 1e3
    with np.load(task["inputs"]) as file:
        x = [file[name] for name in file.files]
    base = peak_memory()
    start = perf_counter()
    run = engine.load(task["model"], task["threads"])
    loaded = perf_counter()
    x = engine.prepare(x) if hasattr(engine, "prepare") else x
    ready = perf_counter()
    y = run(*x)
    first = perf_counter()
    peak = peak_memory()
    if hasattr(engine, "finish"):
        y = engine.finish(y)
    outputs = [np.array(v) for v in leaves(y)]  # copies: some engines give views of their buffers
    digest = hashlib.sha256()
    for v in outputs:
        digest.update(f"{v.dtype}{v.shape}".encode() + v.tobytes())
    if task.get("outputs"):
        np.savez(task["outputs"], *outputs)
    about = {
        "pid": os.getpid(), "version": str(engine.version), "isa": getattr(run, "isa", ""), "import_ms": import_ms,
        "load_ms": (loaded - start) * 1e3, "first_ms": (first - ready) * 1e3, "base_bytes": base, "peak_bytes": peak,
        "outputs": digest.hexdigest(),
    }  # fmt: skip
    return run, x, about


class Irkit:
    """irkit itself, of whatever tree comes first on the module path."""

    def __init__(self) -> None:
        import irkit
        import irkit.backend.artifact  # what a first load would import; other engines import theirs at once

        self.module, self.version = irkit, irkit.__version__

    def load(self, path: str, threads: int) -> Any:
        """The compiled model."""
        exe = self.module.load(path, threads=threads)

        def run(*x: Any) -> Any:
            return exe(*x)

        run.isa = exe._native.isa  # type: ignore[attr-defined]
        return run


def leaves(y: Any) -> list[Any]:
    """The arrays of an answer, in order."""
    if isinstance(y, dict):
        return [v for k in y for v in leaves(y[k])]
    if isinstance(y, (list, tuple)):
        return [v for part in y for v in leaves(part)]
    return [y]


def turn(run: Any, x: list[Any], seconds: float) -> dict[str, Any]:
    """Samples of one turn (ns a call), the calls each is the mean of, and CPU seconds used per second."""
    calls, least = 0, 1 << 62
    begin = perf_counter_ns()
    while not calls or perf_counter_ns() - begin < seconds * WARM_SHARE * 1e9:
        start = perf_counter_ns()
        run(*x)
        least, calls = min(least, perf_counter_ns() - start), calls + 1
    batch = max(1, -(-SAMPLE_NS // max(1, least)))
    samples: list[float] = []
    cpu, begin = process_time(), perf_counter_ns()
    end = begin + int(seconds * 1e9)
    turns = range(batch)
    now = begin
    while not samples or (now < end and len(samples) < MOST_SAMPLES):
        start = perf_counter_ns()
        for _ in turns:
            run(*x)
        now = perf_counter_ns()
        samples.append((now - start) / batch)
    wall = (perf_counter_ns() - begin) * 1e-9
    return {"ns": samples, "batch": batch, "cpu": (process_time() - cpu) / wall, "wall": wall}


def peak_memory() -> int:
    """The most memory that this process had at once, in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # some engines' teardown takes long or fails
