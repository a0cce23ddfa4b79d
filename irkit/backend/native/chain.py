"""Depthwise convolutions run with the convolutions around them, a few rows at a time: kernels/chain."""

from __future__ import annotations

from collections.abc import Sequence

from irkit.backend.kernel import Step
from irkit.backend.table import join
from irkit.ir.graph import Value

MIN_BYTES = 1 << 20  # of tensors that no longer go through memory: below, they stay in a second-level cache anyway
MAX_WIDTH = 240  # pixels of a row that the convolution kernel takes in one go on every ISA


def merge_chains(steps: Sequence[Step]) -> list[Step]:
    """Joins [conv ->] dwconv [-> 1x1 conv] where nothing else reads what is between, and that is large.

    Of all ways to cut a line of steps into such chains, takes the one that keeps most bytes out of memory.
    """
    saved = [0] * (len(steps) + 1)  # by the steps from i on
    first: list[tuple[Step, int]] = []  # the step that covers step i, and how many it covers; last one first
    for i in reversed(range(len(steps))):
        saved[i], best = saved[i + 1], (steps[i], 1)
        for length, depthwise in ((3, 1), (2, 0), (2, 1)):
            group = steps[i : i + length]
            merged = _merge(group, length, depthwise)
            if merged is not None and (kept := bytes_between(group) + saved[i + length]) > saved[i]:
                saved[i], best = kept, (merged, length)
        first.append(best)
    first.reverse()
    out: list[Step] = []
    i = 0
    while i < len(steps):
        step, count = first[i]
        out.append(step)
        i += count
    return out


def bytes_between(group: Sequence[Step]) -> int:
    """Of the tensors that each step of a line makes for the next one."""
    return sum(s.outputs[0].type.nbytes for s in group[:-1])


def saved_by(group: Sequence[Step]) -> int:
    """``Step.saved`` of a line of steps made one."""
    return 2 * bytes_between(group) + sum(s.saved for s in group)


def _merge(group: Sequence[Step], length: int, depthwise: int) -> Step | None:
    if len(group) < length or any(s.family != ("dwconv" if k == depthwise else "conv") for k, s in enumerate(group)):
        return None
    between = [s.outputs[0] for s in group[:-1]]
    if any(not v.has_one_use or nxt.inputs[0] is not v for v, nxt in zip(between, group[1:], strict=True)):
        return None
    if bytes_between(group) < MIN_BYTES:
        return None
    first = group[0] if depthwise == 1 else None
    last = group[-1] if depthwise < length - 1 else None
    middle = group[depthwise]
    if any("winograd" in s.attrs for s in group):  # tiles of several rows
        return None
    for s in (first, last):
        if s is not None and (s.attrs["groups"] != 1 or s.outputs[0].type.shape[3] > MAX_WIDTH):
            return None
    if last is not None and not is_pointwise(last):
        return None
    residuals = [s.inputs[3] for s in group]
    if any(r is not None for r in (residuals if last is None else residuals[:-1])):
        return None
    stages = {"a": first, "b": middle, "c": last}
    inputs = [group[0].inputs[0]]
    for s in stages.values():
        inputs += [None] * 3 if s is None else [s.inputs[1], s.inputs[2], s.inputs[4]]
    inputs.append(None if last is None else residuals[-1])
    kinds = " -> ".join("depthwise" if s is middle else "conv2d" for s in group)
    notes = dict.fromkeys(part for s in group for part in s.note.split("; ") if part.startswith("fused"))
    return Step(
        "chain",
        inputs,
        list(group[-1].outputs),
        {k: s.attrs for k, s in stages.items() if s is not None},
        macs=sum(s.macs for s in group),
        note=join(f"{kinds}, a few rows at a time", *notes),
        loc=group[-1].loc,
        saved=saved_by(group),
        in_place=() if last is None else (len(inputs) - 1,),
    )


def is_pointwise(s: Step) -> bool:
    """A 1x1 convolution that moves no pixel and has one group."""
    w = s.inputs[1]
    shape = w.type.shape[2:] if isinstance(w, Value) else w.array.shape[1:3] if w is not None else ()
    return (
        shape == (1, 1) and list(s.attrs["strides"]) == [1, 1] and not any(s.attrs["pads"]) and s.attrs["groups"] == 1
    )
