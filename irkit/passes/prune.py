"""Pruning: sets the weights that matter least to zero."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irkit.errors import PassError
from irkit.ir.graph import Graph, Operation, Value, const_array
from irkit.ir.passes import Effect, Pass
from irkit.ir.types import Array, DType
from irkit.ops import const, conv2d, linear
from irkit.sparse import masks
from irkit.sparse.criteria import CRITERIA

KINDS = ("linear", "pointwise", "conv", "depthwise")


def kind_of(op: Operation) -> str | None:
    """Which of KINDS an operation with weights is; None for all others."""
    if op.opdef is linear:
        return "linear"
    if op.opdef is not conv2d:
        return None
    shape = op.operand("w").type.shape
    if shape[1] == 1 and op.attrs["groups"] > 1:
        return "depthwise"
    return "pointwise" if shape[2:] == (1, 1) and op.attrs["groups"] == 1 else "conv"


@dataclass(frozen=True)
class Prune(Pass):
    """Zeroes weights of linear and conv2d layers.

    Give one of ``sparsity`` (fraction of each layer, or with ``scope="global"`` of all together, to zero) and
    ``threshold`` (on the score: magnitudes below it go); or ``pattern="2:4"`` (or any n:m), which keeps n of each m
    neighbouring input channels. ``layers`` and ``exclude`` are shell patterns matched with a layer's name (its
    location, or its weight's name); ``kinds`` tells which sorts of layers, by default those that have sparse kernels.
    ``criterion`` is ``magnitude`` or ``lamp``. Do this before quantization.
    """

    effect: ClassVar[Effect] = Effect.LOSSY
    sparsity: float = 0.0
    threshold: float = 0.0
    pattern: str = "unstructured"
    scope: str = "layer"
    layers: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("linear", "pointwise")
    criterion: str = "magnitude"

    def __post_init__(self) -> None:
        for name in ("layers", "exclude", "kinds"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        self._check(0 <= self.sparsity <= 1, "sparsity", "a number from 0 to 1", self.sparsity)
        self._check(self.threshold >= 0, "threshold", "a number >= 0", self.threshold)
        self._check(self.scope in ("layer", "global"), "scope", "'layer' or 'global'", self.scope)
        self._check(self.criterion in CRITERIA, "criterion", f"one of {', '.join(CRITERIA)}", self.criterion)
        self._check(set(self.kinds) <= set(KINDS), "kinds", f"some of {', '.join(KINDS)}", self.kinds)
        if self.pattern == "unstructured":
            if (self.sparsity > 0) == (self.threshold > 0):
                raise PassError("prune: give either sparsity or threshold")
            if self.scope == "global" and self.threshold > 0:
                raise PassError("prune: a threshold is the same for all layers; scope='global' goes with sparsity")
            return
        n, m = self._n_of_m()
        self._check(0 < n < m, "pattern", "'unstructured' or n:m with 0 < n < m", self.pattern)
        if self.sparsity > 0 or self.threshold > 0 or self.scope == "global":
            raise PassError(
                f"prune: pattern {self.pattern} says how many weights go; give no sparsity, threshold or scope"
            )

    def _check(self, ok: bool, name: str, expected: str, got: object) -> None:
        if not ok:
            raise PassError(f"prune: {name}: expected {expected}, got {got!r}")

    def _n_of_m(self) -> tuple[int, int]:
        m = re.fullmatch(r"(\d+):(\d+)", self.pattern)
        return (int(m[1]), int(m[2])) if m else (0, 0)

    def run(self, graph: Graph) -> bool:
        """See the class. PassError when no layer matches."""
        weights = self.select(graph)
        if not weights:
            names = [op.loc or op.operand("w").name for op in graph if kind_of(op) is not None]
            raise PassError(
                f"prune: no layer matches layers={list(self.layers)}, exclude={list(self.exclude)}, "
                f"kinds={list(self.kinds)}; there are: {', '.join(names[:20]) or 'none'}{', ...' if names[20:] else ''}"
            )
        arrays = [_array(v) for v in weights]
        scores = [CRITERIA[self.criterion](a) for a in arrays]
        if self.pattern != "unstructured":
            n, m = self._n_of_m()
            keep = [masks.n_of_m(s, n, m) for s in scores]
        elif self.threshold > 0:
            keep = [masks.at_least(s, self.threshold) for s in scores]
        elif self.scope == "global":
            keep = masks.lowest_of_all(scores, self.sparsity)
        else:
            keep = [masks.lowest(s, self.sparsity) for s in scores]
        changed = False
        for v, a, k in zip(weights, arrays, keep, strict=True):
            pruned = np.where(k, a, a.dtype.type(0))
            if not np.array_equal(pruned, a):
                _replace(graph, v, pruned)
                changed = True
        return changed

    def select(self, graph: Graph) -> list[Value]:
        """The constant float weights that this pass would prune, each once, in order of the graph."""
        out: dict[Value, None] = {}
        for op in graph:
            if kind_of(op) not in self.kinds:
                continue
            w = op.operand("w")
            names = {op.loc, w.name, w.name.removesuffix(".weight")} - {""}
            wanted = any(fnmatch.fnmatchcase(n, p) for n in names or {""} for p in self.layers)
            if not wanted or any(fnmatch.fnmatchcase(n, p) for n in names for p in self.exclude):
                continue
            if const_array(w) is not None and w.type.dtype is DType.F32 and all(_weighs(u, w) for u in w.users):
                out[w] = None
        return list(out)


def _weighs(user: Operation, w: Value) -> bool:
    """True when ``user`` takes ``w`` as its weights and nothing else."""
    return kind_of(user) is not None and user.operand("w") is w and user.operands.count(w) == 1


def _array(v: Value) -> Array:
    a = const_array(v)
    assert a is not None
    return a


def _replace(graph: Graph, v: Value, array: Array) -> None:
    old = v.producer
    assert old is not None
    new = graph.emit(const, before=old, loc=old.loc, names=[v.name], **{**old.attrs, "value": array})
    v.replace_all_uses(new.result)
    graph.erase(old)
