"""Chooses by measurement, when a model is compiled, which lines of layers run together; see :func:`irkit.compile`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from irkit.backend.artifact import sample_input
from irkit.backend.executable import CompiledModel, instantiate
from irkit.backend.kernel import Step
from irkit.backend.plan import make_plan
from irkit.backend.select import select
from irkit.backend.table import Plan
from irkit.backend.tuning import MIN_ROUNDS, WORTH, Clock, call_times, step_times
from irkit.errors import InputError
from irkit.ir.graph import Graph
from irkit.ir.types import Array
from irkit.target import Target, host_arch


def check_seconds(seconds: object, target: Target) -> None:
    """InputError for a time limit that is none, or when this machine can't tell how fast the target is."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 3600:
        raise InputError(f"tune: expected a number of seconds from 0 to 3600, got {seconds!r}")
    if seconds and target.arch != host_arch():
        raise InputError(f"tune: target {target} can't be measured here, on {host_arch()}; compile there, or without")


def fastest_plan(
    graph: Graph,
    target: Target,
    notes: Sequence[tuple[str, str]],
    threads: int | None,
    seconds: float,
    clock: Clock = time.monotonic,
) -> Plan:
    """The plan in which a line of layers runs band by band together unless its steps one by one are clearly faster.

    Measures for at most about ``seconds``, with ``threads`` threads. The other plan is taken when the whole call gains
    as well; a plan's notes tell which lines these are, and the microseconds of both. When the time is too short to
    measure well, the plan is the one that would be made without measuring.
    """
    start = clock()
    plan = make_plan(graph, target, notes)
    together, alone = select(graph, target.arch), select(graph, target.arch, bands=False)
    if len(together) == len(alone):
        return plan
    arrays = [sample_input(v.type, i) for i, v in enumerate(graph.inputs)]

    def model(p: Plan) -> CompiledModel:
        return instantiate(graph, p, threads=threads, target=target)

    base = model(plan)
    other = model(make_plan(graph, target, notes, bands=False))
    times, rounds = step_times([base, other], arrays, start + 0.6 * seconds, clock)
    apart = slower_together(together, alone, times)
    if rounds < MIN_ROUNDS or not apart:
        return plan
    mixed = make_plan(graph, target, notes, apart=apart)
    (before, after), rounds = call_times([base, model(mixed)], arrays, start + seconds, clock)
    return mixed if rounds >= MIN_ROUNDS and after <= WORTH * before else plan


def slower_together(together: Sequence[Step], alone: Sequence[Step], times: Sequence[Array]) -> dict[str, str]:
    """Names of what the steps make that are better ``alone``, with a note at the first one of each line.

    times: least ns of each step of both lists.
    """
    at = {s.outputs[0].name: j for j, s in enumerate(alone)}
    apart: dict[str, str] = {}
    i = j = 0  # where the line begins, in both
    for k, s in enumerate(together):
        end = at.get(s.outputs[0].name, -1) + 1
        if end <= j:
            continue  # what one of the lists does on the way, as turning an image around
        joined, single = int(times[0][i : k + 1].sum()), int(times[1][j:end].sum())
        if end - j > k + 1 - i and single <= WORTH * joined:
            note = f"apart by measurement: {single / 1e3:.1f} us, together {joined / 1e3:.1f} us"
            apart |= {s.outputs[0].name: note if n == 0 else "" for n, s in enumerate(alone[j:end])}
        i, j = k + 1, end
    return apart
