"""Each step of a model against the limits of the machine: what it takes, what it could take, and so what to fix next.

A step can't be faster than its arithmetic at the machine's best rate for it, nor than its bytes at the rate of the
memory they come from:

- arithmetic: 2 * MACs over the peak of the best instruction set that the step's kernel family has a row for, at or
  below the model's level (an int8 convolution on a CPU with AMX is held against AMX, a depthwise one against VNNI);
- bytes: constants come from the level that holds all of the model's constants and intermediate results, as a call goes
  through all of them; other operands from the level that holds the step's own.

MACs are those of the plan: of the direct, dense operation, so that Winograd and sparse kernels may exceed the peak.
Writes count as reads do. The time that could be saved is what is above the larger of the two bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irkit.bench.peaks import Peaks
from irkit.ir.types import DType


@dataclass(frozen=True)
class StepProfile:
    """One step. Times in ns: ``ns`` the least and ``median_ns`` the middle of all calls, ``compute_ns`` and
    ``memory_ns`` the bounds, 0 where there is none; ``limit`` names the larger ("int8.amx", "L2", or "-")."""

    step: int
    layer: str
    op: str
    kernel: str
    ns: float
    median_ns: float
    macs: int
    bytes: int
    compute_ns: float
    memory_ns: float
    limit: str

    @property
    def saved_ns(self) -> float:
        """What would be gained if the step ran at its bound."""
        return max(0.0, self.ns - max(self.compute_ns, self.memory_ns))

    @property
    def gops(self) -> float:
        """GOP/s; a multiply-accumulate is two operations."""
        return 2 * self.macs / self.ns if self.ns else 0.0

    @property
    def gbs(self) -> float:
        """GB/s of all operands."""
        return self.bytes / self.ns if self.ns else 0.0


def profile_steps(exe: Any, inputs: Sequence[Any], limits: Peaks, repeats: int) -> list[StepProfile]:
    """The steps of a compiled model, in order, over that many calls; least time of each counts."""
    timed = exe.profile(*inputs, repeats=repeats)
    constant, other = step_bytes(exe.plan.document)
    footprint = exe.plan.weight_bytes + exe.plan.arena_bytes
    found = []
    for i, row in enumerate(timed):
        peak = arithmetic_peak(exe.plan.rows[i].family, exe.isa, limits) if row["macs"] else ""
        compute = 2 * row["macs"] / limits.gops[peak] if peak else 0.0
        home, near = limits.level(footprint), limits.level(constant[i] + other[i])
        memory = constant[i] / limits.gbs[home] + other[i] / limits.gbs[near]
        limit = peak if compute > memory else home if constant[i] > other[i] else near
        found.append(
            StepProfile(
                i, row["layer"], row["op"], row["kernel"], row["ns"], row["median_ns"], row["macs"], row["bytes"],
                compute, memory, limit if compute or memory else "-",
            )
        )  # fmt: skip
    return found


def by_saving(steps: Sequence[StepProfile]) -> list[StepProfile]:
    """The next step to fix first."""
    return sorted(steps, key=lambda s: (-s.saved_ns, s.step))


def step_bytes(document: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Bytes of each step's constant operands, and of its others."""
    tensors = document["tensors"]
    sizes = [math.prod(t["shape"]) * np.dtype(DType(t["dtype"]).numpy).itemsize for t in tensors]
    constant, other = [], []
    for s in document["steps"]:
        used = {t for t in (*s["in"], *s["out"]) if t >= 0}
        constant.append(sum(sizes[t] for t in used if tensors[t]["loc"][0] == "const"))
        other.append(sum(sizes[t] for t in used if tensors[t]["loc"][0] != "const"))
    return constant, other


def arithmetic_peak(family: str, isa: str, limits: Peaks) -> str:
    """The name in ``limits.gops`` of the best rate open to a kernel family at that level; "" where none is known.

    A family without rows of its own runs those of others (a line of layers): of any float or int8 family.
    """
    from irkit import _native

    rows, levels = _native.kernel_rows(), _native.isas()
    int8 = family.startswith("q")
    own = [r for r in rows if r[0] == family] or [r for r in rows if r[0].startswith("q") == int8]
    usable = levels[: levels.index(isa) + 1]
    best = max((levels.index(r[2]) for r in own if r[2] in usable), default=0)
    names = [f"{'int8' if int8 else 'fp32'}.{i}" for i in reversed(levels[: best + 1])]
    return next((n for n in names if n in limits.gops), "")
