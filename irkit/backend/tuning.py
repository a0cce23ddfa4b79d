"""Measures how an artifact's steps run fastest on this machine; see :func:`irkit.tune`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from irkit import _native
from irkit.backend import choices
from irkit.backend.artifact import load, sample_input
from irkit.backend.choices import Choice, Choose
from irkit.backend.executable import CompiledModel, check_threads, default_threads
from irkit.errors import InputError
from irkit.ir.types import Array

Clock = Callable[[], float]

MIN_ROUNDS = 5  # of each variant: with fewer, nothing is chosen
WORTH = 0.97  # a step, and a whole call, must take at most this part of what it took before
CLEARLY = 0.9  # a step that gains this much is tried without the others when all together gain nothing
LOADING = 0.4  # of the time: then what is loaded has to do


@dataclass(frozen=True)
class StepTimes:
    """What was measured of a step: least ns as the runtime runs it by itself, and of each variant (highest level of
    instructions, threads) that was tried; ``chosen`` is the variant that is kept, None when the runtime's own is."""

    layer: str
    before_ns: int
    tried: tuple[tuple[Choice, int], ...]
    chosen: Choice | None

    @property
    def after_ns(self) -> int:
        """Least ns of what is kept."""
        return dict(self.tried)[self.chosen] if self.chosen else self.before_ns


@dataclass(frozen=True)
class Tuning:
    """What :func:`irkit.tune` found: the model as it now runs, a call's least ns before and after, the times of all
    steps (empty when there was no time to measure), and the file in which choices are kept (None: nothing to keep, or
    no place for it)."""

    model: CompiledModel
    before_ns: int
    after_ns: int
    steps: tuple[StepTimes, ...]
    path: Path | None

    @property
    def changed(self) -> tuple[tuple[str, Choice], ...]:
        """Layer and choice of the steps that no longer run as the runtime would by itself."""
        return tuple((s.layer, s.chosen) for s in self.steps if s.chosen)


def tune(
    path: str | os.PathLike[str],
    inputs: Sequence[Any] | None = None,
    threads: int | None = None,
    seconds: float = 4.0,
    clock: Clock = time.monotonic,
) -> Tuning:
    """See :func:`irkit.tune`. ``clock``: seconds since some moment."""
    check_limit(seconds, "seconds: expected a number")
    count = default_threads() if threads is None else check_threads(threads)
    start = clock()
    seen: list[int] = []  # the plan's digest

    def default(digest: int, _: int) -> None:
        seen.append(digest)

    base = load(path, count, choose=default)
    arrays = [sample_input(t, i) for i, (_, t) in enumerate(base.signature.inputs)]
    if inputs is not None:
        arrays = base.check(inputs)
    if clock() - start >= seconds:
        return Tuning(base, 0, 0, (), None)
    level = _native.effective_isa(None)
    variants, models = _variants(path, count, level, start + LOADING * seconds, clock)
    times, rounds = step_times([base, *models], arrays, start + 0.75 * seconds, clock)
    if rounds < MIN_ROUNDS:
        return Tuning(base, 0, 0, (), None)
    measured = [
        StepTimes(r.layer, int(t[0]), tuple((v, int(ns)) for v, ns in zip(variants, t[1:], strict=True)), None)
        for r, t in zip(base.plan.rows, np.array(times).T, strict=True)
    ]
    picks = [p for p in (pick(measured, WORTH), pick(measured, CLEARLY)) if any(p)]
    picks = picks[:1] if len(picks) == 2 and picks[0] == picks[1] else picks
    tuned = [load(path, count, choose=_as_given([c or (level, 0) for c in p])) for p in picks]
    calls, rounds = call_times((base, *tuned), arrays, start + seconds, clock) if tuned else ([0], 0)
    before = int(calls[0])
    for p, model, after in sorted(zip(picks, tuned, calls[1:], strict=True), key=lambda t: t[2]):
        if rounds < MIN_ROUNDS or after > WORTH * before or not _same(base, model, arrays):
            continue
        file = choices.path_of(seen[0], level, count)
        kept = choices.write(file, seen[0], [c or (level, 0) for c in p])
        steps = tuple(replace(s, chosen=c) for s, c in zip(measured, p, strict=True))
        return Tuning(model, before, int(after), steps, file if kept else None)
    return Tuning(base, before, before, tuple(measured), None)


def check_limit(seconds: object, expected: str) -> None:
    """InputError, which begins with ``expected``, for a time limit that is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 3600:
        raise InputError(f"{expected} from 0 to 3600, got {seconds!r}")


def pick(steps: Sequence[StepTimes], worth: float) -> list[Choice | None]:
    """Each step's fastest variant where it takes at most ``worth`` of what the runtime's own choice takes."""
    picked: list[Choice | None] = []
    for s in steps:
        best, ns = min(s.tried, key=lambda t: t[1], default=(None, 0))
        picked.append(best if best and ns <= worth * s.before_ns else None)
    return picked


def _variants(
    path: str | os.PathLike[str], count: int, level: str, until: float, clock: Clock
) -> tuple[list[Choice], list[CompiledModel]]:
    """Models that run all steps alike: with the best instructions of this CPU, then with each lower level that has
    kernels of its own for this plan (scalar ones are for other machines); each with all threads and with one."""
    levels = _native.isas()
    below = [isa for isa in reversed(levels[: levels.index(level)]) if isa != "scalar"]
    variants: list[Choice] = []
    models: list[CompiledModel] = []
    known: list[list[str]] = []
    for isa in (level, *below):
        kernels: list[str] = []
        for n in dict.fromkeys((count, 1)):
            if variants and clock() >= until:
                return variants, models
            model = load(path, count, choose=_all_as((isa, n)))
            kernels = model._native.kernels
            if kernels in known:
                break
            variants.append((isa, n))
            models.append(model)
        known.append(kernels)
    return variants, models


def _as_given(picked: list[Choice]) -> Choose:
    return lambda *_: picked


def _all_as(variant: Choice) -> Choose:
    return lambda _, steps: [variant] * steps


def _same(a: CompiledModel, b: CompiledModel, arrays: list[Array]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a.run_flat(arrays), b.run_flat(arrays), strict=True))


def step_times(
    models: Sequence[CompiledModel], arrays: list[Array], until: float, clock: Clock
) -> tuple[list[Array], int]:
    """Least ns of each step of each model, by turns until then; and how many turns all of them had."""
    least: list[Array | None] = [None] * len(models)
    rounds = 0
    while True:
        for k, m in enumerate(models):
            ns = np.array([row[3] for row in m._native.profile(arrays, 3)], np.int64)
            before = least[k]
            least[k] = ns if before is None else np.minimum(ns, before)
            if clock() >= until:
                return [
                    np.zeros(len(m.plan.rows)) if t is None else t for t, m in zip(least, models, strict=True)
                ], rounds
        rounds += 1


def call_times(
    models: Sequence[CompiledModel], arrays: list[Array], until: float, clock: Clock
) -> tuple[list[int], int]:
    """Least ns of a call of each model, by turns until then; and how many turns all of them had."""
    least = [1 << 62] * len(models)
    rounds = 0
    while clock() < until:
        for k, m in enumerate(models):
            for _ in range(3):
                t = time.perf_counter_ns()
                m.run_flat(arrays)
                least[k] = min(least[k], time.perf_counter_ns() - t)
        rounds += 1
    return least, rounds
