"""Measures how an artifact's steps run fastest on this machine; see :func:`irkit.tune`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irkit import _native
from irkit.backend import choices
from irkit.backend.artifact import load, sample_input
from irkit.backend.choices import Choice
from irkit.backend.executable import CompiledModel, check_threads, default_threads
from irkit.errors import InputError
from irkit.ir.types import Array

MIN_ROUNDS = 5  # of each variant: with fewer, nothing is chosen
WORTH = 0.97  # a step, and a whole call, must take at most this part of what it took before


@dataclass(frozen=True)
class Tuning:
    """What :func:`irkit.tune` found: the model as it now runs, a call's least ns before and after, the steps that
    changed, and the file in which that is kept (None: nothing to keep, or no place for it)."""

    model: CompiledModel
    before_ns: int
    after_ns: int
    changed: tuple[tuple[str, Choice], ...]
    path: Path | None


def tune(
    path: str | os.PathLike[str], inputs: Sequence[Any] | None = None, threads: int | None = None, seconds: float = 2.0
) -> Tuning:
    """See :func:`irkit.tune`."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 3600:
        raise InputError(f"seconds: expected a number from 0 to 3600, got {seconds!r}")
    count = default_threads() if threads is None else check_threads(threads)
    start = time.monotonic()
    seen: list[int] = []  # the plan's digest

    def default(digest: int, _: int) -> None:
        seen.append(digest)

    base = load(path, count, choose=default)
    arrays = [sample_input(t, i) for i, (_, t) in enumerate(base.signature.inputs)]
    if inputs is not None:
        arrays = base.check(inputs)
    if time.monotonic() - start >= seconds:
        return Tuning(base, 0, 0, (), None)
    level = _native.effective_isa(None)
    levels = _native.isas()
    below = levels[max(levels.index(level) - 1, 0)]
    variants = [(isa, n) for isa in dict.fromkeys((level, below)) for n in dict.fromkeys((1, count))]
    models = [base, *(_forced(path, count, v) for v in variants)]
    times, rounds = _measure(models, arrays, start + 0.7 * seconds)
    if rounds < MIN_ROUNDS:
        return Tuning(base, 0, 0, (), None)
    picked, changed = _pick(times, variants, level, base)
    before = after = 0
    if changed:
        tuned = load(path, count, choose=lambda *_: picked)
        calls, rounds = _calls((base, tuned), arrays, start + seconds)
        before, after = (int(t) for t in calls)
        same = all(
            a.tobytes() == b.tobytes() for a, b in zip(base.run_flat(arrays), tuned.run_flat(arrays), strict=True)
        )
        if rounds >= MIN_ROUNDS and after <= WORTH * before and same:
            file = choices.path_of(seen[0], level, count)
            return Tuning(tuned, before, after, changed, file if choices.write(file, seen[0], picked) else None)
    return Tuning(base, before, before, (), None)


def _forced(path: str | os.PathLike[str], count: int, variant: Choice) -> CompiledModel:
    return load(path, count, choose=lambda _, steps: [variant] * steps)


def _measure(models: Sequence[CompiledModel], arrays: list[Array], until: float) -> tuple[Array, int]:
    """Least ns of each step of each model, by turns until then; and how many turns all of them had."""
    least: list[Array | None] = [None] * len(models)
    rounds = 0
    while True:
        for k, m in enumerate(models):
            ns = np.array([row[3] for row in m._native.profile(arrays, 3)], np.int64)
            least[k] = ns if least[k] is None else np.minimum(ns, least[k])  # type: ignore[arg-type]
            if time.monotonic() >= until:
                return np.array([ns if t is None else t for t in least]), rounds
        rounds += 1


def _calls(models: Sequence[CompiledModel], arrays: list[Array], until: float) -> tuple[list[int], int]:
    """Least ns of a call of each model, by turns until then; and how many turns both had."""
    least = [1 << 62] * len(models)
    rounds = 0
    while time.monotonic() < until:
        for k, m in enumerate(models):
            for _ in range(3):
                t = time.perf_counter_ns()
                m.run_flat(arrays)
                least[k] = min(least[k], time.perf_counter_ns() - t)
        rounds += 1
    return least, rounds


def _pick(
    times: Array, variants: Sequence[Choice], level: str, base: CompiledModel
) -> tuple[list[Choice], tuple[tuple[str, Choice], ...]]:
    """Each step's fastest variant where that is clearly faster than the runtime's own choice."""
    picked: list[Choice] = []
    changed = []
    for i, row in enumerate(base.plan.rows):
        best = int(np.argmin(times[1:, i]))
        if times[1 + best, i] <= WORTH * times[0, i]:
            picked.append(variants[best])
            changed.append((row.layer, variants[best]))
        else:
            picked.append((level, 0))
    return picked, tuple(changed)
