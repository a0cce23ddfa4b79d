"""Latency, memory and load time of artifacts, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irkit.bench.process import Job, Turn, interleave, workers
from irkit.bench.report import times_ms
from irkit.bench.stats import Summary
from irkit.errors import BenchError, InputError
from irkit.ir.types import Array


@dataclass(frozen=True)
class Settings:
    """How long and how often: ``starts`` processes one after the other, ``rounds`` turns of ``seconds`` in all."""

    rounds: int = 9
    seconds: float = 0.2
    starts: int = 3
    pin: bool = False

    def per_start(self) -> list[int]:
        """Rounds of each start; every start has one at least."""
        return [max(1, len(range(i, self.rounds, self.starts))) for i in range(self.starts)]

    def cpus(self, threads: int) -> list[int]:
        """CPUs to stay on: the first of those this process may use, one a thread; none when not pinning."""
        allowed = sorted(os.sched_getaffinity(0))
        if self.pin and threads > len(allowed):
            raise BenchError(f"can't pin {threads} threads to {len(allowed)} CPU(s)")
        return allowed[:threads] if self.pin else []


@contextlib.contextmanager
def arrays_file(arrays: Sequence[Array]) -> Iterator[Path]:
    """A temporary .npz of a call's inputs, in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, *arrays)
        yield path


def measure(
    jobs: Sequence[Job], settings: Settings, tell: Callable[[str], None] = lambda _: None
) -> list[tuple[list[dict[str, Any]], list[Turn]]]:
    """(what each start told, all turns) of each job; the jobs take turns, and each start begins with another one."""
    told: list[list[dict[str, Any]]] = [[] for _ in jobs]
    turns: list[list[Turn]] = [[] for _ in jobs]
    for start, rounds in enumerate(settings.per_start()):
        tell(f"{jobs[0].label}: start {start + 1} of {settings.starts}")
        with workers(jobs) as team:
            got = interleave(team, rounds, settings.seconds, start)
            for i, w in enumerate(team):
                told[i].append(w.about)
                turns[i] += got[i]
    return list(zip(told, turns, strict=True))


def summary(told: Sequence[dict[str, Any]], turns: Sequence[Turn]) -> dict[str, Any]:
    """The fields that every timed row has."""
    return {
        **times_ms([ns for t in turns for ns in t.ns]),
        "turns_ms": [t.median * 1e-6 for t in turns],
        "load_ms": Summary.of([a["load_ms"] for a in told]).median,
        "first_ms": Summary.of([a["first_ms"] for a in told]).median,
        "starts_ms": [a["load_ms"] + a["first_ms"] for a in told],
        "import_ms": Summary.of([a["import_ms"] for a in told]).median,
        "peak_bytes": max(a["peak_bytes"] for a in told),
        "base_bytes": max(a["base_bytes"] for a in told),
        "others": round(Summary.of([t.others for t in turns]).median, 2),
    }


def artifact_rows(
    path: Path, arrays: Sequence[Array] | None, threads: Sequence[int], settings: Settings,
    tell: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row of kind "latency" for each thread count, measured in turns. ``arrays``: a call's inputs, else made up."""
    import irkit
    from irkit.backend.artifact import sample_input

    exe = irkit.load(path, threads=1)  # checks the file and the inputs, and tells what is in it
    signature = exe.signature.inputs
    x = [sample_input(t, i) for i, (_, t) in enumerate(signature)] if arrays is None else exe.check(arrays)
    sizes = {
        "file_bytes": path.stat().st_size,
        "weight_bytes": exe.plan.weight_bytes,
        "arena_bytes": exe.plan.arena_bytes,
    }
    del exe
    name = path.name.removesuffix(".irk")
    with arrays_file(x) as inputs:
        jobs = [
            Job(f"{name}, {n} thread(s)", path, n, inputs, env=irkit_environment(), cpus=settings.cpus(n))
            for n in threads
        ]
        found = measure(jobs, settings, tell)
    return [
        {"model": name, "threads": n, "isa": told[0]["isa"], **summary(told, turns), **sizes}
        for n, (told, turns) in zip(threads, found, strict=True)
    ]


def find_artifacts(paths: Sequence[Path]) -> list[Path]:
    """The .irk files named, and those in folders named, sorted; InputError when there is none."""
    found: list[Path] = []
    for p in paths:
        if p.is_dir():
            found += sorted(p.glob("*.irk"))
        elif p.is_file():
            found.append(p)
        else:
            raise InputError(f"artifact {p} does not exist")
    if not found:
        raise InputError(f"no .irk files in {', '.join(map(str, paths))}")
    return found


def irkit_environment() -> dict[str, str]:
    """So that a worker imports the irkit that this process has."""
    from irkit.bench.machine import PACKAGE

    return {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
