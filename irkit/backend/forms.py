"""Chooses by measurement, when a model is compiled, between forms that an artifact can't hold at once; see
:func:`irkit.compile`: lines of layers that run together or one by one, weights that are stored sparse or dense."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from irkit.backend.artifact import sample_input
from irkit.backend.executable import CompiledModel, instantiate
from irkit.backend.kernel import Step
from irkit.backend.plan import make_plan
from irkit.backend.select import select
from irkit.backend.table import Plan, join
from irkit.backend.tuning import MIN_ROUNDS, WORTH, Clock, call_times, check_limit, step_times
from irkit.errors import InputError
from irkit.ir.graph import Graph
from irkit.ir.types import Array
from irkit.target import Target, host_arch

MOST_DENSITY = 0.6  # of weights for which sparse storage is tried: on no CPU do more non-zeros win


def check_seconds(seconds: float, target: Target) -> None:
    """InputError for a time limit that is none, or when this machine can't tell how fast the target is."""
    check_limit(seconds, "tune: expected a number of seconds")
    if seconds and target.arch != host_arch():
        raise InputError(f"tune: target {target} can't be measured here, on {host_arch()}; compile there, or without")


Lowered = Callable[[Mapping[str, Any]], Graph]  # the graph in the form that plans are made of; options of ``sparsify``


@dataclass(frozen=True)
class Storage:
    """Weights that were measured to be faster otherwise than predicted, by name, and notes for the plan by the name of
    what their layer makes."""

    sparse: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Of ``sparsify``."""
        return {"sparse": self.sparse, "dense": self.dense}


def fastest_storage(
    lowered: Lowered, target: Target, threads: int | None, seconds: float, clock: Clock = time.monotonic
) -> Storage:
    """Which weights to store otherwise than predicted, as that is clearly faster, and makes the whole call so.

    Each layer is measured as predicted, with all weights dense, and with all sparse that may be, for at most about
    ``seconds``. None when the time is too short to measure well, or no weights have zeros enough.
    """
    start = clock()
    most = lowered({"density": MOST_DENSITY})
    if all(r.type.encoding.sparse is None for op in most for r in op.results):
        return Storage()
    graphs = [lowered({}), lowered({"density": 0.0}), most]
    plans = [make_plan(g, target, bands=False) for g in graphs]
    models = [instantiate(g, p, threads=threads, target=target) for g, p in zip(graphs, plans, strict=True)]
    arrays = [sample_input(v.type, i) for i, v in enumerate(graphs[0].inputs)]
    times, rounds = step_times(models, arrays, start + 0.6 * seconds, clock)
    if rounds < MIN_ROUNDS:
        return Storage()
    base, dense, sparse = (select(g, target.arch, bands=False) for g in graphs)
    storage = _storage(gains(base, dense, times[:2]), gains(base, sparse, times[::2]))
    if storage == Storage():
        return storage
    graph = lowered(storage.options)
    model = instantiate(graph, make_plan(graph, target), threads=threads, target=target)
    predicted = instantiate(graphs[0], make_plan(graphs[0], target), threads=threads, target=target)
    (before, after), rounds = call_times([predicted, model], arrays, start + seconds, clock)
    return storage if rounds >= MIN_ROUNDS and after <= WORTH * before else Storage()


def _storage(to_dense: Iterator[Gain], to_sparse: Iterator[Gain]) -> Storage:
    names: dict[str, list[str]] = {"dense": [], "sparse": []}
    remarks: dict[str, str] = {}
    for kind, other, found in (("dense", "sparse", to_dense), ("sparse", "dense", to_sparse)):
        for g in found:
            changed = _sparse_weights(g.base) ^ _sparse_weights(g.other)
            if changed:
                names[kind] += sorted(changed)
                us = f"{g.other_ns / 1e3:.1f} us, {other} {g.base_ns / 1e3:.1f} us"
                remarks[g.other[-1].outputs[0].name] = f"{kind} by measurement: {us}"
    return Storage(tuple(names["sparse"]), tuple(names["dense"]), remarks)


def _sparse_weights(steps: Sequence[Step]) -> set[str]:
    ops = [s.outputs[0].producer for s in steps]
    weights = (v for op in ops if op is not None for v in op.operands if v is not None)
    return {v.name for v in weights if v.type.encoding.sparse is not None}


def fastest_plan(
    graph: Graph,
    target: Target,
    notes: Sequence[tuple[str, str]],
    threads: int | None,
    seconds: float,
    remarks: Mapping[str, str] | None = None,
    clock: Clock = time.monotonic,
) -> Plan:
    """The plan in which a line of layers runs band by band together unless its steps one by one are clearly faster.

    Measures for at most about ``seconds``, with ``threads`` threads. The other plan is taken when the whole call gains
    as well; a plan's notes tell which lines these are, and the microseconds of both. When the time is too short to
    measure well, the plan is the one that would be made without measuring. ``remarks``: see ``make_plan``.
    """
    start = clock()
    plan = make_plan(graph, target, notes, remarks=remarks)
    together, alone = select(graph, target.arch), select(graph, target.arch, bands=False)
    if len(together) == len(alone):
        return plan
    arrays = [sample_input(v.type, i) for i, v in enumerate(graph.inputs)]

    def model(p: Plan) -> CompiledModel:
        return instantiate(graph, p, threads=threads, target=target)

    base = model(plan)
    other = model(make_plan(graph, target, notes, bands=False))
    times, rounds = step_times([base, other], arrays, start + 0.6 * seconds, clock)
    apart: dict[str, str] = {}
    for g in gains(together, alone, times):
        if len(g.other) > len(g.base):
            note = f"apart by measurement: {g.other_ns / 1e3:.1f} us, together {g.base_ns / 1e3:.1f} us"
            apart |= {s.outputs[0].name: note if n == 0 else "" for n, s in enumerate(g.other)}
    if rounds < MIN_ROUNDS or not apart:
        return plan
    told = dict(remarks or {})
    told |= {name: join(told.get(name, ""), note) for name, note in apart.items()}
    mixed = make_plan(graph, target, notes, apart=apart, remarks=told)
    (before, after), rounds = call_times([base, model(mixed)], arrays, start + seconds, clock)
    return mixed if rounds >= MIN_ROUNDS and after <= WORTH * before else plan


@dataclass(frozen=True)
class Gain:
    """Steps that do the same in two plans, clearly faster in the other one; least ns of both."""

    base: Sequence[Step]
    other: Sequence[Step]
    base_ns: int
    other_ns: int


def gains(base: Sequence[Step], other: Sequence[Step], times: Sequence[Array]) -> Iterator[Gain]:
    """The stretches, between values that steps of both make, that take clearly less time in ``other``.

    times: least ns of each step of both.
    """
    at = {s.outputs[0].name: j for j, s in enumerate(other)}
    i = j = 0  # where the stretch begins, in both
    for k, s in enumerate(base):
        end = at.get(s.outputs[0].name, -1) + 1
        if end <= j:
            continue  # what one of the plans does on the way, as turning an image around
        ns = int(times[0][i : k + 1].sum()), int(times[1][j:end].sum())
        if ns[1] <= WORTH * ns[0]:
            yield Gain(base[i : k + 1], other[j:end], *ns)
        i, j = k + 1, end
